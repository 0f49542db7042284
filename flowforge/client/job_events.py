"""Reading server-sent events of a job, and taking them up again where they were cut off."""

from __future__ import annotations

import json
import time

from flowforge.client.answers import read_value
from flowforge.client.exchange import RETRIED, Lost, Reply, Request, explain, give_up
from flowforge.errors import Unavailable
from flowforge.rules.jobs.records import Event

PAUSE_SECONDS = 0.5
CLOSED = "closed"


class EventReader:
    """Where a reader is in the events of one job, however often its stream is cut.

    Args:
        request: Asks for the stream.
        after: Number of the last event that is known.
        patience_seconds: How long the server may stay away between two events.
    """

    def __init__(self, request: Request, after: int, patience_seconds: float) -> None:
        self._request = request
        self._patience_seconds = patience_seconds
        self._deadline = time.monotonic() + patience_seconds
        self._kind = ""
        self._data: list[str] = []
        self.after = after
        self.is_closed = False
        """Whether the job has ended and every event of it was read."""

    def ask(self) -> Request:
        """The request for all that follows what is known."""
        headers = {"Accept": "text/event-stream", "Last-Event-ID": str(self.after)}
        return Request(self._request.method, self._request.url, headers=headers)

    def feed(self, line: str) -> Event | None:
        """Take in one line; an event that it completes, unless it is known already."""
        self._deadline = time.monotonic() + self._patience_seconds
        if line == "":
            return self._complete()
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "event":
            self._kind = value
        elif name == "data":
            self._data.append(value)
        return None

    def lose(self, answer: Reply | Lost) -> float:
        """The stream was cut, or did not begin; how long to wait before asking again.

        Raises:
            Refused: The server said no; the job may have been deleted.
            Unavailable: It has been away for too long.
        """
        self._kind, self._data = "", []
        if isinstance(answer, Reply) and answer.status not in RETRIED:
            raise explain(answer, self._request)
        if time.monotonic() > self._deadline:
            raise give_up(self._request, answer)
        return PAUSE_SECONDS

    def _complete(self) -> Event | None:
        kind, data = self._kind, "\n".join(self._data)
        self._kind, self._data = "", []
        if kind == CLOSED:
            self.is_closed = True
        if not data or self.is_closed:
            return None
        try:
            event = read_value(Event, json.loads(data))
        except ValueError as error:
            raise Unavailable(
                f"{self._request.url} sent an event that cannot be read.",
                hint="Upgrade this client to the server's version, then follow the job again.",
            ) from error
        if event.seq <= self.after:
            return None
        self.after = event.seq
        return event
