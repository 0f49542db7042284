"""What keeps an attempt from going on; these never leave the engine."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from flowforge.rules.jobs.steps import Ending


class Ended(Exception):
    """The job cannot go on."""

    def __init__(self, ending: Ending) -> None:
        super().__init__(ending.reason)
        self.ending = ending


class Parked(Exception):
    """The job gives its place back and goes on later."""

    def __init__(self, reason: str, seconds: float) -> None:
        super().__init__(reason)
        self.reason = reason
        self.until = datetime.now(UTC) + timedelta(seconds=seconds)
