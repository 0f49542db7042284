"""A prompt as the cache sees it: blocks in order, each with a digest of all before it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from pydantic import BaseModel

from flowforge.twin.model.asked import Block, CacheControl, Counted, Tool

Part = Literal["tools", "system", "messages"]
_BYTES_PER_TOKEN = 4


@dataclass(frozen=True)
class Step:
    """One block of a prompt."""

    part: Part
    digest: bytes
    """Of this block and everything before it."""

    tokens: int
    """Of this block and everything before it."""

    ttl: str | None
    """`5m` or `1h` when a breakpoint is set on it."""


@dataclass(frozen=True)
class Prompt:
    """What is sent to the model, ready for the cache."""

    model: str
    tools: bytes
    """Digest of the tools alone."""

    system: bytes
    """Digest of the system prompt alone."""

    options: bytes
    """Digest of what else changes the prompt: thinking, the choice of a tool, speed."""

    steps: tuple[Step, ...]

    @property
    def tokens(self) -> int:
        """All of its tokens."""
        return self.steps[-1].tokens


def count_text(text: str) -> int:
    """Tokens of a text: about a quarter of its bytes, and never none."""
    return max(1, (len(text.encode(errors="replace")) + _BYTES_PER_TOKEN - 1) // _BYTES_PER_TOKEN)


def lay_out(asked: Counted) -> Prompt:
    """Put a prompt in the order tools, system, messages and sum it up block by block."""
    chain = hashlib.sha256(asked.model.encode())
    steps: list[Step] = []
    tokens = 0

    def add(part: Part, block: Block | Tool, content: bytes) -> None:
        nonlocal tokens
        chain.update(len(content).to_bytes(8, "big") + content)
        tokens += (len(content) + _BYTES_PER_TOKEN - 1) // _BYTES_PER_TOKEN
        ttl = block.cache_control.ttl if block.cache_control else None
        steps.append(Step(part, chain.digest(), tokens, ttl))

    tools = [(tool, _content(tool)) for tool in asked.tools]
    system = [(block, _content(block)) for block in asked.system_blocks()]
    for tool, content in tools:
        add("tools", tool, content)
    for block, content in system:
        add("system", block, content)
    options = _options(asked)
    chain.update(options)
    for message in asked.messages:
        chain.update(message.role.encode())
        for block in message.blocks():
            add("messages", block, _content(block))
    return Prompt(
        asked.model,
        _digest(content for _, content in tools),
        _digest(content for _, content in system),
        options,
        _with_automatic(steps, asked.cache_control),
    )


def _content(block: BaseModel) -> bytes:
    return block.model_dump_json(exclude={"cache_control"}, exclude_unset=True).encode()


def _options(asked: Counted) -> bytes:
    values = (asked.thinking, asked.tool_choice)
    texts = [value.model_dump_json() if value else "" for value in values]
    return _digest(text.encode() for text in [*texts, asked.speed or ""])


def _digest(contents: Iterable[bytes]) -> bytes:
    found = hashlib.sha256()
    for content in contents:
        found.update(len(content).to_bytes(8, "big") + content)
    return found.digest()


def _with_automatic(steps: list[Step], control: CacheControl | None) -> tuple[Step, ...]:
    """Set the breakpoint that is asked for at the top level on the last block."""
    if control and steps and steps[-1].ttl is None:
        steps[-1] = replace(steps[-1], ttl=control.ttl)
    return tuple(steps)
