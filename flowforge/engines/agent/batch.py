"""A turn that goes by batch: handed in, left alone, looked at again later.

What is handed in is written down before and after, so that it is handed in once. While it waits
nobody holds a place for it; the most it may cost counts as perhaps spent until its end is known.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Literal, TypeVar

from sqlalchemy.ext.asyncio import AsyncEngine

from flowforge.engines.agent import transport
from flowforge.engines.agent.batches import Batches, Result
from flowforge.engines.agent.calling import Caller, Paid
from flowforge.engines.agent.conversation import Conversation
from flowforge.engines.agent.endings import Ended, Parked
from flowforge.engines.agent.patience import patiently
from flowforge.engines.agent.steps import reached
from flowforge.engines.agent.transport import CallFailed
from flowforge.ledger.journal import artifacts, prices, turns
from flowforge.ledger.journal.leases import Lease
from flowforge.rules.jobs import batches, retries
from flowforge.rules.jobs.records import Job
from flowforge.rules.jobs.retries import Failure
from flowforge.rules.jobs.steps import Ending
from flowforge.rules.values import Value

_CLOCKS_DIFFER = timedelta(minutes=1)
_MAKING_TAKES = timedelta(minutes=5)
T = TypeVar("T")


class Note(Value):
    """What is written down of a turn that is handed in."""

    call: int
    """Which of the calls of its turn it is."""

    most: int
    """The most tokens the reply may hold."""

    made_at: datetime
    """When it was about to be handed in."""

    batch: str | None = None
    """The provider's name for it; `None` while nobody has heard it."""

    is_void: bool = False
    """Whether nothing more comes of it."""


class Batcher:
    """Asks the model for the turns of one attempt, by batch.

    Args:
        engine: The ledger.
        lease: The attempt's.
        job: The job.
        caller: Who sets money aside, and asks at once where a batch would come too late.
        sent: The account's batches.
    """

    def __init__(
        self, engine: AsyncEngine, lease: Lease, job: Job, caller: Caller, sent: Batches
    ) -> None:
        self._engine, self._lease, self._job = engine, lease, job
        self._caller, self._sent = caller, sent

    async def turn(self, n: int, talk: Conversation, calls_before: int) -> Paid:
        """Have the reply of turn `n`, if it is there, and write it down; as `Caller.turn`.

        Raises:
            Ended: The request was refused, or somebody canceled its batch.
            Parked: The batch has not ended, or the account is not accepted.
        """
        await self._caller.recovery.check()
        note = await self._read(n)
        if note is None or note.is_void:
            if not batches.is_in_time(self._job.spec, datetime.now(UTC)):
                return await self._caller.turn(n, talk, calls_before)
            note = await self._set_aside(n, talk, calls_before + 1)
            note = await self._hand_in(n, talk, note)
        elif note.batch is None:
            note = await self._find(n, note) or await self._hand_in(n, talk, note)
        batch, name = note.batch or "", self._name(n, note)
        if not await self._persist(n, lambda: self._sent.has_ended(batch)):
            age = (datetime.now(UTC) - note.made_at).total_seconds()
            raise Parked(f"batch: {batch} has not ended", batches.pause_seconds(age))
        result = await self._persist(n, lambda: self._sent.result(batch, name))
        await self._begin(n, talk)
        return await self._take(n, note, result)

    async def cancel(self, n: int) -> None:
        """Have a turn that was handed in never be answered, if that can still be had."""
        note = await self._read(n)
        if note is not None and note.batch is not None and not note.is_void:
            with contextlib.suppress(CallFailed):  # then it is paid, and counts as perhaps spent
                await self._sent.cancel(note.batch)

    async def _begin(self, n: int, talk: Conversation) -> None:
        model = self._job.spec.model
        await patiently(lambda: turns.begin(self._engine, self._lease, n, talk.digest, model))

    async def _set_aside(self, n: int, talk: Conversation, call: int) -> Note:
        await self._begin(n, talk)
        asked = talk.request()
        price = await self._caller.price()
        tokens = await self._caller.count(asked)
        bid = await self._caller.set_aside(n, call, asked, price, tokens)
        return Note(call=call, most=bid.most, made_at=datetime.now(UTC))

    async def _hand_in(self, n: int, talk: Conversation, note: Note) -> Note:
        """Hand a turn in; what is not known to have been taken is looked for another time."""
        note = note.model_copy(update={"made_at": datetime.now(UTC)})
        await self._write(n, note)
        reached(f"ask-{n}")
        try:
            batch = await self._sent.create(
                self._name(n, note), talk.request() | {"max_tokens": note.most}
            )
        except CallFailed as failed:
            if failed.failure.kind == "again":
                reason = f"batch: not known whether it was taken: {failed.failure.message}"
                raise Parked(reason, batches.FIRST_PAUSE_SECONDS) from failed
            raise await self._in_vain(n, note, failed.failure) from failed
        reached(f"reply-{n}")
        note = note.model_copy(update={"batch": batch})
        await self._write(n, note)
        return note

    async def _find(self, n: int, note: Note) -> Note | None:
        """The batch of a turn whose worker died while it was handed in."""
        first, last = note.made_at - _CLOCKS_DIFFER, note.made_at + _MAKING_TAKES
        unknown = False
        for batch in await self._persist(n, lambda: self._sent.made_between(first, last)):
            result = await self._look_into(n, batch, self._name(n, note))
            if isinstance(result, Result):
                note = note.model_copy(update={"batch": batch})
                await self._write(n, note)
                return note
            unknown = unknown or result == "not yet"
        if unknown:
            age = (datetime.now(UTC) - note.made_at).total_seconds()
            raise Parked("batch: one of several may be its own", batches.pause_seconds(age))
        return None

    async def _look_into(self, n: int, batch: str, name: str) -> Result | Literal["not yet"] | None:
        if not await self._persist(n, lambda: self._sent.has_ended(batch)):
            return "not yet"
        return await self._persist(n, lambda: self._sent.result(batch, name))

    async def _take(self, n: int, note: Note, result: Result | None) -> Paid:
        if result is not None and result.message is not None:
            said = transport.said(result.message.to_dict(mode="json"), {})
            model, day = self._job.spec.model, note.made_at.date()
            price = await patiently(lambda: prices.price(self._engine, model, day))
            return await self._caller.write(n, note.call, said, price, batch=True)
        if result is None or result.kind == "canceled":
            why = "was canceled at the provider" if result else "does not hold its request"
            raise await self._in_vain(n, note, Failure(kind="request", message=f"the batch {why}"))
        expired = Failure(kind="again", message="the batch expired")
        raise await self._in_vain(n, note, result.failure or expired)

    async def _in_vain(self, n: int, note: Note, failure: Failure) -> Exception:
        """What it means that nothing comes of what was handed in, and that it cost nothing."""
        await self._caller.settle(n, note.call, "failed", Decimal(0))
        await self._write(n, note.model_copy(update={"is_void": True}))
        if note.call >= retries.MOST_CALLS:
            reason = f"{note.call} batches brought no reply: {failure.message}"
            return Ended(Ending(state="failed", reason=reason))
        await self._caller.recovery.recover(n, note.call, [failure])
        return Parked(f"batch: {failure.message}", batches.FIRST_PAUSE_SECONDS)

    async def _persist(self, n: int, question: Callable[[], Awaitable[T]]) -> T:
        """Ask the provider until it answers, for a while."""
        failures: list[Failure] = []
        while len(failures) < retries.MOST_CALLS:
            try:
                return await question()
            except CallFailed as failed:
                failures.append(failed.failure)
                await self._caller.recovery.recover(n, len(failures), failures)
        raise Parked("batch: the provider does not answer", batches.FIRST_PAUSE_SECONDS)

    async def _read(self, n: int) -> Note | None:
        engine, job = self._engine, self._lease.job
        found = await patiently(lambda: artifacts.list_artifacts(engine, job))
        if _artifact(n) not in {artifact.name for artifact in found}:
            return None
        written = await patiently(lambda: artifacts.get(engine, job, _artifact(n)))
        return Note.model_validate_json(written)

    async def _write(self, n: int, note: Note) -> None:
        content = note.model_dump_json().encode()
        await patiently(
            lambda: artifacts.put(
                self._engine, self._lease, _artifact(n), "application/json", content
            )
        )

    def _name(self, n: int, note: Note) -> str:
        return f"{self._job.id}-{n}-{note.call}"


def _artifact(n: int) -> str:
    return f"batch-{n:06}"
