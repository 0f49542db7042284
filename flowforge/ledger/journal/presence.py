"""The connection that shows a worker is alive.

Each process that works on jobs holds one, with an advisory lock for each of its attempts. When the
process dies, however it dies, the kernel closes the socket and PostgreSQL lets the locks go: others
see that at once, without waiting for a lease to run out. The connection must go to PostgreSQL
itself, or through a pooler in session mode.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from typing import Any

import psycopg
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from flowforge.errors import Busy, Refused
from flowforge.ledger.journal import jobs
from flowforge.ledger.journal.connection import Row, connect, driver, fetch, translated
from flowforge.ledger.journal.fragments import CALL_WORKER, GONE, LOCK, LOST, SPEND, TELL
from flowforge.ledger.journal.leases import Lease, lost
from flowforge.ledger.journal.orphans import GRACE_SECONDS
from flowforge.rules.jobs import states
from flowforge.rules.values import Value

LEASE_SECONDS = 30.0

_FREE = f"""(j.state IN ('queued', 'waiting')
   OR (j.state IN ('starting', 'running', 'finishing') AND {GONE}))"""

_ONE = f"""
  SELECT id, tenant, lease_until FROM flowforge.jobs j WHERE id = :job AND {_FREE} FOR NO KEY UPDATE
"""
_NEXT = f"""
  SELECT id, tenant, lease_until FROM flowforge.jobs j
   WHERE state IN ('queued', 'waiting', 'starting', 'running', 'finishing') AND {_FREE}
     AND coalesce(not_before, created_at) <= clock_timestamp()
   ORDER BY priority DESC, id LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED
"""

# The lock is taken before the claim is committed: nobody ever sees a claim without its lock.
_CLAIM = f"""
WITH guard AS ({{which}}), {LOST.format(ended="guard")}, {SPEND}, claimed AS (
  UPDATE flowforge.jobs j
     SET state = 'starting', reason = NULL, fence = j.fence + 1, worker = :worker,
         lease_until = clock_timestamp() + make_interval(secs => :seconds), not_before = NULL,
         reserved_usd = 0, unknown_usd = j.unknown_usd + j.reserved_usd,
         started_at = coalesce(j.started_at, now())
    FROM guard g WHERE j.id = g.id RETURNING j.id, j.fence, {TELL.format(job="j.id")},
      {CALL_WORKER.format(job="j.id")}
), ended AS (
  UPDATE flowforge.attempts a
     SET ended_at = least(now(), g.lease_until), end_reason = 'its worker was gone'
    FROM guard g WHERE a.job = g.id AND a.ended_at IS NULL
), begun AS (
  INSERT INTO flowforge.attempts (job, fence, worker) SELECT id, fence, :worker FROM claimed
)
SELECT id AS job, fence, pg_advisory_lock({LOCK.format(job="id", fence="fence")}) FROM claimed
"""
_CLAIM_ONE = sa.text(_CLAIM.format(which=_ONE))
_CLAIM_NEXT = sa.text(_CLAIM.format(which=_NEXT))

_RENEW = sa.text("""
UPDATE flowforge.jobs SET lease_until = clock_timestamp() + make_interval(secs => :seconds)
 WHERE id = :job AND fence = :fence RETURNING cancel_requested_at, cancel_requested_by, lease_until
""")
_OF_LEASE = LOCK.format(job=":job", fence="CAST(:fence AS bigint)")
_TRY_LOCK = sa.text(f"SELECT pg_try_advisory_lock({_OF_LEASE}) AS taken")
_UNLOCK = sa.text(f"SELECT pg_advisory_unlock({_OF_LEASE})")
_UNLOCK_ALL = sa.text("SELECT pg_advisory_unlock_all()")


class Renewal(Value):
    """What a renewed lease tells."""

    until: datetime
    cancelled_by: str | None
    """Who asked that the job ends."""


class Presence:
    """This process's connection and the attempts it holds."""

    def __init__(self, engine: AsyncEngine, seconds: float, grace: float) -> None:
        self._engine = engine
        self._seconds = seconds
        self._grace = grace
        self._connection: AsyncConnection | None = None
        self._held: set[Lease] = set()
        self._unlocked: set[Lease] = set()  # held, but not locked by this connection yet
        self._turn = asyncio.Lock()

    async def claim(self, job: str, worker: str) -> Lease:
        """Begin an attempt of a job that is queued, waits, or has lost its worker.

        Raises:
            Busy: A living attempt has it.
            Refused: It has ended, or there is none.
        """
        lease = await self._claim(_CLAIM_ONE, worker, {"job": job})
        if lease is not None:
            return lease
        found = await jobs.get(self._engine, job)
        if states.is_end(found.state):
            raise Refused(f"{job} has ended: {found.state}.", hint="Submit it as a new job.")
        raise Busy(f"{job} is being worked on by {found.worker}.", hint="Leave it to that worker.")

    async def claim_next(self, worker: str) -> Lease | None:
        """Begin an attempt of the job that is first in line: by priority, then by age."""
        return await self._claim(_CLAIM_NEXT, worker, {})

    async def renew(self, lease: Lease) -> Renewal:
        """Prolong a lease; after a lost connection its lock is taken again.

        Raises:
            Fenced: The job is no longer this attempt's.
        """
        bound = {"job": lease.job, "fence": lease.fence, "seconds": self._seconds}
        rows = await self._run(_RENEW, bound)
        if not rows:
            self._held.discard(lease)
            raise lost(lease)
        asked = rows[0]["cancel_requested_at"] is not None
        by = str(rows[0]["cancel_requested_by"]) if asked else None
        return Renewal(until=rows[0]["lease_until"], cancelled_by=by)

    async def let_go(self, lease: Lease) -> None:
        """Give up the lock of an attempt that is over."""
        if lease in self._held:
            self._held.discard(lease)
            await self._run(_UNLOCK, {"job": lease.job, "fence": lease.fence})

    async def close(self) -> None:
        """Give up all locks, and close the connection."""
        async with self._turn:
            self._held.clear()
            # PostgreSQL sees the end of a connection a moment later; who asks next shall not wait.
            if self._connection is not None:
                with contextlib.suppress(psycopg.Error):
                    await fetch(self._connection, _UNLOCK_ALL, {})
            await self._drop()

    async def _claim(
        self, statement: sa.TextClause, worker: str, which: Mapping[str, Any]
    ) -> Lease | None:
        bound = {"worker": worker, "seconds": self._seconds, "grace": self._grace}
        rows = await self._run(statement, bound | dict(which))
        if not rows:
            return None
        lease = Lease(job=rows[0]["job"], fence=rows[0]["fence"])
        self._held.add(lease)
        return lease

    async def _run(self, statement: sa.TextClause, bound: Mapping[str, Any]) -> list[Row]:
        # Whoever gives up waiting must not tear down the connection that all attempts share.
        running = asyncio.create_task(self._run_alone(statement, bound))
        running.add_done_callback(_look_at)
        return await asyncio.shield(running)

    async def _run_alone(self, statement: sa.TextClause, bound: Mapping[str, Any]) -> list[Row]:
        async with self._turn, translated(self._engine):
            try:
                return await fetch(await self._connected(), statement, bound)
            except psycopg.Error:
                if self._connection is not None and driver(self._connection).closed:
                    await self._drop()
                raise

    async def _connected(self) -> AsyncConnection:
        if self._connection is None:
            self._connection = await connect(self._engine)
            self._unlocked = set(self._held)
        for lease in self._unlocked & self._held:
            # While PostgreSQL has not noticed that the old connection is gone, that one has the
            # lock, which is as good.
            bound = {"job": lease.job, "fence": lease.fence}
            if (await fetch(self._connection, _TRY_LOCK, bound))[0]["taken"]:
                self._unlocked.discard(lease)
        return self._connection

    async def _drop(self) -> None:
        # Given back to the pool it would keep its locks; closed, it keeps nothing.
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.invalidate()
            await connection.close()


def _look_at(done: asyncio.Task[list[Row]]) -> None:
    # Its error goes to whoever waits; when nobody does any more, there is nobody to tell.
    if not done.cancelled():
        done.exception()


@contextlib.asynccontextmanager
async def presence(
    engine: AsyncEngine, seconds: float = LEASE_SECONDS, *, grace: float = GRACE_SECONDS
) -> AsyncIterator[Presence]:
    """Hold a connection for the attempts of this process.

    Args:
        engine: The ledger; one of its connections is in use until the end.
        seconds: How long a lease runs; renew it at half of that.
        grace: So many seconds after a start of PostgreSQL a missing lock means nothing.
    """
    held = Presence(engine, seconds, grace)
    try:
        yield held
    finally:
        await held.close()
