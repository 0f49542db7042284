"""Faults that are played in place of a good reply, in the order they were asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field, model_validator

from flowforge.rules.values import Value
from flowforge.twin.model.asked import Asked
from flowforge.twin.model.problems import Rejected

Kind = Literal["status", "close", "reset", "end", "error", "malformed", "hang", "silence", "drip"]
Place = Literal["messages", "count_tokens", "models", "batches"]


class Fault(Value):
    """One thing that goes wrong, and when."""

    kind: Kind = Field(
        description="status: an HTTP error; close: the connection ends in the middle of the reply; "
        "reset: the same, with a reset; end: the stream ends well, but too early; error: an event "
        "says that it failed; malformed: the input of a tool is no JSON; hang: nothing comes any "
        "more; silence: not even the head of the reply comes; drip: every event comes late"
    )
    status: int = Field(default=529, ge=400, le=599)
    error_type: str | None = Field(default=None, description="By default what goes with the status")
    error_code: str | None = None
    message: str = "A fault of the rehearsal."
    headers: Mapping[str, str] = Field(default_factory=dict)
    after_events: int = Field(default=3, ge=0, description="Events of a stream that come before")
    seconds: float = Field(default=0.1, ge=0, description="Between two events that drip")
    count: int = Field(default=1, ge=1, description="How often it is played")
    on: Place = "messages"
    turn: int | None = Field(default=None, description="Only when there were so many replies")
    contains: str | None = Field(default=None, description="Only when the prompt has this text")

    @model_validator(mode="after")
    def _only_status_elsewhere(self) -> Fault:
        if self.on != "messages" and (
            self.kind != "status" or self.turn is not None or self.contains is not None
        ):
            raise ValueError("only a status, without turn or text, can be played on other requests")
        return self

    def fits(self, place: Place, asked: Asked | None) -> bool:
        """Whether it is meant for this request."""
        if place != self.on:
            return False
        if asked is None:
            return True
        return self.turn in (None, asked.turn()) and (self.contains or "") in asked.prompt()

    def rejected(self) -> Rejected:
        """The answer of a `status`, and what an `error` event says."""
        return Rejected(
            self.status,
            self.message,
            kind=self.error_type,
            code=self.error_code,
            headers=self.headers,
        )


class Faults:
    """Those still to be played."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Fault, int]] = []

    def add(self, *faults: Fault) -> None:
        """Put faults at the end of the queue."""
        self._waiting += [(fault, fault.count) for fault in faults]

    def take(self, place: Place, asked: Asked | None = None) -> Fault | None:
        """The first fault meant for a request, which is used up by that."""
        for number, (fault, left) in enumerate(self._waiting):
            if fault.fits(place, asked):
                self._waiting[number : number + 1] = [(fault, left - 1)] if left > 1 else []
                return fault
        return None

    def clear(self) -> None:
        """Forget them all."""
        self._waiting.clear()

    def __len__(self) -> int:
        return sum(left for _, left in self._waiting)
