"""Batches: many requests at once, answered a little later, in no order."""

from __future__ import annotations

import hashlib
import itertools
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from flowforge.twin.model.asked import Asked, BatchAsked, BatchItem, read
from flowforge.twin.model.models import paged, stamp
from flowforge.twin.model.problems import Rejected
from flowforge.twin.model.replies import compose, consider
from flowforge.twin.model.state import State

_LASTS = timedelta(hours=24)
_ENDS = ("succeeded", "errored", "canceled", "expired")


@dataclass
class Batch:
    """One batch. It ends when its time has come and somebody looks."""

    id: str
    items: list[BatchItem]
    ends: float
    """On the clock of the server."""

    host: str
    created: datetime = field(default_factory=lambda: datetime.now(UTC))
    cancelled: datetime | None = None
    ended: datetime | None = None
    results: list[dict[str, object]] = field(default_factory=list)

    def to_json(self) -> dict[str, object]:
        """The object of the API."""
        counts = dict.fromkeys(("processing", *_ENDS), 0)
        counts["processing"] = 0 if self.ended else len(self.items)
        for result in self.results:
            outcome = result["result"]
            assert isinstance(outcome, dict)
            counts[outcome["type"]] += 1
        status = "ended" if self.ended else "canceling" if self.cancelled else "in_progress"
        return {
            "type": "message_batch",
            "id": self.id,
            "processing_status": status,
            "request_counts": counts,
            "created_at": stamp(self.created),
            "expires_at": stamp(self.created + _LASTS),
            "cancel_initiated_at": stamp(self.cancelled) if self.cancelled else None,
            "ended_at": stamp(self.ended) if self.ended else None,
            "archived_at": None,
            "results_url": self._results_url() if self.ended else None,
        }

    def _results_url(self) -> str:
        return f"http://{self.host}/v1/messages/batches/{self.id}/results"


class Batches:
    """All batches of a server.

    Args:
        state: What the server remembers; answers go through its cache.
        seconds: How long a batch takes.
    """

    def __init__(self, state: State, seconds: float) -> None:
        self._state = state
        self._seconds = seconds
        self._numbers = itertools.count(1)
        self._batches: dict[str, Batch] = {}

    def create(self, content: bytes, host: str) -> dict[str, object]:
        """Take a batch in.

        Raises:
            Rejected: It makes no sense, or two of its requests have the same `custom_id`.
        """
        asked = read(BatchAsked, content)
        names = [item.custom_id for item in asked.requests]
        if len(set(names)) < len(names):
            raise Rejected(400, "requests: custom_id must be unique within a batch")
        number = f"msgbatch_rehearsal_{next(self._numbers):08d}"
        ends = self._state.clock() + self._seconds
        self._batches[number] = Batch(number, asked.requests, ends, host)
        return self._batches[number].to_json()

    def find(self, batch_id: str) -> Batch:
        """A batch by its id, ended if its time has come.

        Raises:
            Rejected: There is none.
        """
        batch = self._batches.get(batch_id)
        if batch is None:
            raise Rejected(404, f"Message Batch {batch_id} not found.")
        if not batch.ended and (batch.cancelled or self._state.clock() >= batch.ends):
            batch.results = [self._result(batch, item) for item in _shuffled(batch.items)]
            batch.ended = datetime.now(UTC)
        return batch

    def page(self, query: dict[str, list[str]]) -> dict[str, object]:
        """A page of all batches, the newest first."""
        return paged([self.find(one).to_json() for one in reversed(self._batches)], query)

    def cancel(self, batch_id: str) -> dict[str, object]:
        """Cancel what has not been answered. It has ended when it is looked at again.

        Raises:
            Rejected: There is none, or it has ended.
        """
        batch = self.find(batch_id)
        if batch.ended:
            raise Rejected(400, f"Message Batch {batch_id} has ended and cannot be canceled.")
        batch.cancelled = datetime.now(UTC)
        return batch.to_json()

    def delete(self, batch_id: str) -> dict[str, object]:
        """Forget a batch.

        Raises:
            Rejected: There is none, or it has not ended.
        """
        if not self.find(batch_id).ended:
            raise Rejected(400, f"Message Batch {batch_id} must end before it can be deleted.")
        del self._batches[batch_id]
        return {"type": "message_batch_deleted", "id": batch_id}

    def results(self, batch_id: str) -> bytes:
        """The results, one JSON object a line.

        Raises:
            Rejected: There is none, or it has not ended.
        """
        batch = self.find(batch_id)
        if not batch.ended:
            raise Rejected(404, f"Message Batch {batch_id} has no results yet.")
        lines = [json.dumps(result, ensure_ascii=False) for result in batch.results]
        return "".join(f"{line}\n" for line in lines).encode()

    def _result(self, batch: Batch, item: BatchItem) -> dict[str, object]:
        if batch.cancelled:
            return {"custom_id": item.custom_id, "result": {"type": "canceled"}}
        content = json.dumps(item.params).encode()
        try:
            considered = consider(read(Asked, content), content)
            cached = self._state.cache.look_up(considered.prompt)
            reply = compose(considered, cached, self._state, "batch")
        except Rejected as problem:
            error = problem.body(self._state.next_request_id())
            return {"custom_id": item.custom_id, "result": {"type": "errored", "error": error}}
        self._state.counters.bill(reply.usage)
        result = {"type": "succeeded", "message": reply.message}
        return {"custom_id": item.custom_id, "result": result}


def _shuffled(items: list[BatchItem]) -> list[BatchItem]:
    """In an order that has nothing to do with that of the requests, the same each time."""
    return sorted(items, key=lambda item: hashlib.sha256(item.custom_id.encode()).digest())
