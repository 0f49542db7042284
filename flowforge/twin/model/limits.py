"""Rate limits: three buckets that fill up evenly, and the headers that tell what is in them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from pydantic import Field

from flowforge.rules.values import Value
from flowforge.twin.model.models import stamp
from flowforge.twin.model.problems import Rejected

_WORDS = {
    "requests": "requests per minute",
    "input-tokens": "input tokens per minute",
    "output-tokens": "output tokens per minute",
}


class Limits(Value):
    """What may be asked in a minute; so generous by default that nobody meets it."""

    requests: int = Field(default=100_000, ge=1)
    input_tokens: int = Field(default=1_000_000_000, ge=1)
    output_tokens: int = Field(default=1_000_000_000, ge=1)
    burst: float = Field(
        default=1.0, gt=0, le=1, description="Which part of a minute's worth may come at once"
    )


@dataclass
class _Bucket:
    """Fills with `rate` a second up to its size."""

    size: float
    rate: float
    filled: float
    at: float

    def level(self, now: float) -> float:
        self.filled = min(self.size, self.filled + (now - self.at) * self.rate)
        self.at = now
        return self.filled

    def wait(self, amount: float, now: float) -> float:
        """Seconds until so much is in it, or it is full."""
        return max(0.0, (min(amount, self.size) - self.level(now)) / self.rate)

    def full_in(self, now: float) -> float:
        return (self.size - self.level(now)) / self.rate


class Limiter:
    """The three buckets of one organisation."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.set(Limits())

    def set(self, limits: Limits) -> None:
        """Begin anew, with full buckets."""
        self._limits = limits
        now = self._clock()
        minutes = (limits.requests, limits.input_tokens, limits.output_tokens)
        self._buckets = {
            name: _Bucket(size := max(1.0, a_minute * limits.burst), a_minute / 60, size, now)
            for name, a_minute in zip(_WORDS, minutes, strict=True)
        }

    def take(self, input_tokens: int, max_tokens: int) -> None:
        """Take what one request needs, of all buckets or of none.

        Args:
            input_tokens: Those not read from the cache.
            max_tokens: The most it may write; what it does not write is given back.

        Raises:
            Rejected: It is too much for now; the header says how many seconds to wait.
        """
        now = self._clock()
        needs = dict(zip(_WORDS, (1, input_tokens, max_tokens), strict=True))
        waits = {name: self._buckets[name].wait(need, now) for name, need in needs.items()}
        longest = max(waits, key=lambda name: waits[name])
        if waits[longest] > 0:
            raise Rejected(
                429,
                f"This request would exceed the rate limit of {_WORDS[longest]}.",
                headers={"retry-after": str(math.ceil(waits[longest])), **self.headers()},
            )
        for name, need in needs.items():
            self._buckets[name].filled -= need

    def give_back(self, output_tokens: int) -> None:
        """Return tokens that were allowed for and not written."""
        self._buckets["output-tokens"].filled += output_tokens

    def headers(self) -> dict[str, str]:
        """The `anthropic-ratelimit-*` headers as of now."""
        now, wall = self._clock(), datetime.now(UTC)
        found = {}
        for name, bucket in self._buckets.items():
            stem = f"anthropic-ratelimit-{name}"
            found[f"{stem}-limit"] = str(round(bucket.rate * 60))
            found[f"{stem}-remaining"] = str(max(0, int(bucket.level(now))))
            found[f"{stem}-reset"] = stamp(wall + timedelta(seconds=bucket.full_in(now)))
        return found
