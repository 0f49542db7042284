"""The Batches API as far as a job of one reply needs it: one request a batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from anthropic import AsyncAnthropic
from anthropic.types import Message
from anthropic.types.messages import MessageBatch, MessageBatchIndividualResponse

from flowforge.engines.agent.transport import understood
from flowforge.rules.jobs import retries
from flowforge.rules.jobs.retries import Failure


@dataclass(frozen=True)
class Result:
    """What came of a request; `said` when it went well, `failure` when it did not."""

    kind: Literal["succeeded", "errored", "expired", "canceled"]
    message: Message | None = None
    failure: Failure | None = None


class Batches:
    """The batches of an account. Every method raises `CallFailed` when there is no answer."""

    def __init__(self, client: AsyncAnthropic) -> None:
        self._batches = client.messages.batches

    async def create(self, custom_id: str, params: Mapping[str, Any]) -> str:
        """Hand in one request; return the id of its batch."""
        request: Any = {"custom_id": custom_id, "params": dict(params)}
        async with understood():
            made = await self._batches.create(requests=[request])
        return made.id

    async def has_ended(self, batch: str) -> bool:
        """Whether there are results."""
        async with understood():
            found = await self._batches.retrieve(batch)
        return found.processing_status == "ended"

    async def result(self, batch: str, custom_id: str) -> Result | None:
        """What came of a request in a batch that has ended; nothing when it was not in it."""
        async with understood():
            async for one in await self._batches.results(batch):
                if one.custom_id == custom_id:
                    return _result(one)
        return None

    async def cancel(self, batch: str) -> None:
        """Have what is not answered yet never be answered. One that has ended is left as it is."""
        async with understood():
            if (await self._batches.retrieve(batch)).processing_status == "in_progress":
                await self._batches.cancel(batch)

    async def made_between(self, first: datetime, last: datetime) -> list[str]:
        """The batches of a single request that were made in a time, the newest first."""
        found = []
        async with understood():
            async for batch in self._batches.list(limit=100):
                if batch.created_at < first:
                    break
                if batch.created_at <= last and _size(batch) == 1:
                    found.append(batch.id)
        return found


def _size(batch: MessageBatch) -> int:
    counts = batch.request_counts
    waiting = counts.processing + counts.succeeded
    return waiting + counts.errored + counts.expired + counts.canceled


def _result(one: MessageBatchIndividualResponse) -> Result:
    if one.result.type == "succeeded":
        return Result("succeeded", message=one.result.message)
    if one.result.type == "errored":
        error = one.result.error.error
        kind = retries.classify(type=error.type, message=error.message)
        return Result("errored", failure=Failure(kind=kind, message=error.message[:500]))
    return Result(one.result.type)
