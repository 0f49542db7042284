"""What may end an attempt from outside: a cancel, the clock, another worker, a lost ledger."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable
from datetime import UTC, datetime
from typing import Any, TypeVar

from flowforge.engines.agent.endings import Ended
from flowforge.errors import Unavailable
from flowforge.ledger.journal.leases import Fenced, Lease
from flowforge.ledger.journal.news import News
from flowforge.ledger.journal.presence import LEASE_SECONDS, Presence
from flowforge.rules.jobs import batches, steps
from flowforge.rules.jobs.records import Job
from flowforge.rules.jobs.steps import Ending

_RENEW_SECONDS = LEASE_SECONDS / 3
T = TypeVar("T")


class Watch:
    """Keeps the lease of an attempt and stops its work when it must not go on."""

    def __init__(self, presence: Presence, news: News, lease: Lease, job: Job) -> None:
        self._presence, self._news, self._lease, self._job = presence, news, lease, job
        self._wall_seconds = batches.wall_seconds(job.spec, job.created_at)
        self._looked_at = time.monotonic()  # the journal counts what was worked until then
        self._stop: asyncio.Future[Ending | BaseException] = asyncio.Future()
        self.remarks: list[str] = []
        """What the model shall be told when there is an occasion."""

    @property
    def seconds_left(self) -> float:
        """How long the job may go on."""
        deadline, now = self._job.spec.deadline, datetime.now(UTC)
        return steps.seconds_left(self._wall_seconds, self.worked_seconds, deadline, now)

    @property
    def worked_seconds(self) -> float:
        """How long all attempts of the job have worked."""
        return self._job.worked_seconds + time.monotonic() - self._looked_at

    async def over(self, work: Awaitable[T], *, grace: float = 0.0) -> T:
        """Do a piece of work unless the attempt has to stop; then it is cancelled.

        Args:
            work: What is done.
            grace: So many seconds it may go on all the same.

        Raises:
            Ended: The job was cancelled, or its time is up.
            Fenced: Another attempt has it.
        """
        doing = asyncio.ensure_future(work)
        try:
            either: set[asyncio.Future[Any]] = {doing, self._stop}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not doing.done() and grace:
                await asyncio.wait({doing}, timeout=grace)
        finally:
            if not doing.done():
                doing.cancel()
                await asyncio.wait({doing})
        if doing.cancelled() or (self._stop.done() and doing.exception() is not None):
            stop = self._stop.result()
            raise Ended(stop) if isinstance(stop, Ending) else stop
        return doing.result()

    async def keep(self) -> None:
        """Renew the lease, hear of a cancel, look at the clock; until it is cancelled."""
        warned = False
        with self._news.watch_as_worker(self._lease.job) as watch:
            while not self._stop.done():
                watch.seen()
                await self._look()
                left = self.seconds_left
                if left <= 0:
                    self._end(Ending(state="timed_out", reason="its time is up"))
                    return
                if not warned and left < self._wall_seconds * steps.WARNED_SHARE:
                    warned = True
                    self.remarks.append(steps.LAST_CALL.format(seconds=left))
                await watch.wait(min(_RENEW_SECONDS, max(0.05, self._next_look(left))))

    def _next_look(self, left: float) -> float:
        """The seconds until the warning or the end."""
        warning = left - self._wall_seconds * steps.WARNED_SHARE
        return warning if warning > 0 else left

    async def _look(self) -> None:
        try:
            renewal = await self._presence.renew(self._lease)
        except Fenced as lost:
            self._end(lost)
        except Unavailable:
            return  # writes wait for the ledger; who takes the job meanwhile fences this attempt
        else:
            if renewal.cancelled_by is not None:
                reason = f"cancelled by {renewal.cancelled_by}"
                self._end(Ending(state="cancelled", reason=reason))

    def _end(self, stop: Ending | BaseException) -> None:
        if not self._stop.done():
            self._stop.set_result(stop)


@contextlib.asynccontextmanager
async def watching(presence: Presence, news: News, lease: Lease, job: Job) -> AsyncIterator[Watch]:
    """Keep a lease while the block lasts."""
    watch = Watch(presence, news, lease, job)
    keeping = asyncio.create_task(watch.keep())
    try:
        yield watch
    finally:
        keeping.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await keeping
