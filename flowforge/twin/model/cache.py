"""The prompt cache: what of a prompt is read, what is written, and why nothing was found."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace

from flowforge.twin.model.prompts import Prompt

SECONDS = {"5m": 300.0, "1h": 3600.0}
_SMALLEST = 1024
"""A shorter prefix is not kept."""

_LOOK_BACK = 20
"""How many blocks before a breakpoint are looked at."""

_REMEMBERED = 20_000


@dataclass(frozen=True)
class Cached:
    """How the tokens of one prompt are accounted for."""

    plain: int
    """After the last breakpoint, or before it when there is none."""

    read: int
    written_5m: int = 0
    written_1h: int = 0

    def to_json(self) -> dict[str, object]:
        """The part of `usage` that is about the prompt."""
        return {
            "input_tokens": self.plain,
            "cache_creation_input_tokens": self.written_5m + self.written_1h,
            "cache_read_input_tokens": self.read,
            "cache_creation": {
                "ephemeral_5m_input_tokens": self.written_5m,
                "ephemeral_1h_input_tokens": self.written_1h,
            },
        }


@dataclass(frozen=True)
class _Print:
    """What is remembered of a request, to say later what changed."""

    prompt: Prompt
    """With its last block only."""

    kept: int
    """Tokens of it that the cache then held."""


class Cache:
    """Prefixes by digest, each with the moment it is forgotten."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._until: OrderedDict[bytes, tuple[float, str]] = OrderedDict()
        self._prints: OrderedDict[str, _Print] = OrderedDict()

    def look_up(self, prompt: Prompt) -> Cached:
        """Account for a prompt without touching the cache."""
        marks = [number for number, step in enumerate(prompt.steps) if step.ttl]
        hit = max((self._hit(prompt, mark) for mark in marks), default=0)
        written = {"5m": 0, "1h": 0}
        upto = hit
        for mark in marks:
            step = prompt.steps[mark]
            if step.tokens > upto and step.tokens >= _SMALLEST:
                written[step.ttl or "5m"] += step.tokens - upto
                upto = step.tokens
        return Cached(prompt.tokens - upto, hit, written["5m"], written["1h"])

    def keep(self, prompt: Prompt, cached: Cached, message_id: str) -> None:
        """Keep the prefixes of a prompt that is answered; the one that was read lives longer."""
        now, kept = self._clock(), 0
        for step in prompt.steps:
            was_read = cached.read and step.tokens == cached.read
            ttl = self._until[step.digest][1] if was_read else step.ttl
            if ttl and step.tokens >= _SMALLEST:
                self._until[step.digest] = (now + SECONDS[ttl], ttl)
                self._until.move_to_end(step.digest)
                kept = step.tokens
        self._prints[message_id] = _Print(replace(prompt, steps=prompt.steps[-1:]), kept)
        for memory in (self._until, self._prints):
            while len(memory) > _REMEMBERED:
                memory.popitem(last=False)

    def diagnose(
        self, prompt: Prompt, cached: Cached, previous_id: str
    ) -> dict[str, object] | None:
        """Say why the prefix of an earlier request could not be read.

        Returns:
            The `cache_miss_reason`; nothing when the prompt only grew.
        """
        before = self._prints.get(previous_id)
        if before is None:
            return {"type": "previous_message_not_found"}
        reason = _difference(before.prompt, prompt)
        if reason is None:
            return None
        if reason == "unavailable":
            return {"type": reason}
        missed = max(0, before.kept - cached.read)
        return {"type": f"{reason}_changed", "cache_missed_input_tokens": missed}

    def _hit(self, prompt: Prompt, mark: int) -> int:
        now = self._clock()
        for step in reversed(prompt.steps[max(0, mark - _LOOK_BACK + 1) : mark + 1]):
            if self._until.get(step.digest, (0.0, ""))[0] > now:
                return step.tokens
        return 0


def _difference(before: Prompt, now: Prompt) -> str | None:
    if before.model != now.model:
        return "model"
    if before.tools != now.tools:
        return "tools"
    if before.system != now.system:
        return "system"
    if before.options != now.options:
        return "unavailable"
    last = before.steps[-1].digest
    return None if any(step.digest == last for step in now.steps) else "messages"
