"""What happened on the side of the server, to hold against what a caller believes."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Counters:
    """Since the start, or since the last reset."""

    requests: Counter[str] = field(default_factory=Counter)
    """By what was asked for."""

    statuses: Counter[str] = field(default_factory=Counter)
    """By the status that was answered."""

    faults: Counter[str] = field(default_factory=Counter)
    """Those played, by kind."""

    tokens: Counter[str] = field(default_factory=Counter)
    """Those billed, by field of `usage`."""

    billed_turns: int = 0
    """Replies that were begun, or items of batches that succeeded: both cost money."""

    finished_turns: int = 0
    """Replies that were sent to their end."""

    aborted_streams: int = 0
    """Replies whose reader left before their end."""

    open_replies: int = 0
    most_open_replies: int = 0

    def begin(self, usage: dict[str, object]) -> None:
        """A reply starts, and costs what it will."""
        self.bill(usage)
        self.open_replies += 1
        self.most_open_replies = max(self.most_open_replies, self.open_replies)

    def bill(self, usage: dict[str, object]) -> None:
        """Add what one reply costs."""
        self.billed_turns += 1
        self.tokens.update({name: value for name, value in usage.items() if isinstance(value, int)})

    def to_json(self) -> dict[str, object]:
        """All of them."""
        return {
            name: dict(value) if isinstance(value, Counter) else value
            for name, value in vars(self).items()
        }
