"""The tools a conversation used so far, with what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flowforge.twin.model.asked import Message


@dataclass(frozen=True)
class Done:
    """One use of a tool and its result."""

    name: str
    input: dict[str, object]
    output: str
    failed: bool

    @property
    def command(self) -> str:
        """What was typed, for a shell."""
        return str(self.input.get("command", ""))


def read(messages: Sequence[Message]) -> list[Done]:
    """Pair every use of a tool with its result, in order."""
    blocks = [block for message in messages for block in message.blocks()]
    results = {block.tool_use_id: block for block in blocks if block.type == "tool_result"}
    return [
        Done(
            block.name,
            block.input,
            results[block.id].shown(),
            bool(results[block.id].is_error),
        )
        for block in blocks
        if block.type == "tool_use" and block.id in results
    ]
