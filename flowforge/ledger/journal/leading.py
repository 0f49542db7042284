"""Which of several servers looks after the jobs: the one that holds a lock for as long as it lives.

The lock belongs to a connection. When its process dies, PostgreSQL lets it go at once, and the next
one that asks leads.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from flowforge.ledger.journal.connection import connect, fetch, translated

# Two numbers, so that it is no attempt's lock: those have one.
_LOCK = sa.text("SELECT pg_try_advisory_lock(hashtext('flowforge'), hashtext(:role)) AS leads")
_ALIVE = sa.text("SELECT 1 AS alive")


class Candidate:
    """A process that leads when nobody else does."""

    def __init__(self, engine: AsyncEngine, role: str) -> None:
        self._engine = engine
        self._role = role
        self._connection: AsyncConnection | None = None
        self._leads = False

    async def leads(self) -> bool:
        """Whether this process leads now; becomes the leader when there is none.

        Raises:
            Unavailable: The ledger did not answer; somebody else may lead by now.
        """
        try:
            async with translated(self._engine):
                return await self._ask()
        except BaseException:
            await self.resign()
            raise

    async def resign(self) -> None:
        """Leave the lead to somebody else."""
        connection, self._connection, self._leads = self._connection, None, False
        if connection is not None:
            # Given back to the pool it would keep the lock.
            await connection.invalidate()
            await connection.close()

    async def _ask(self) -> bool:
        if self._connection is None:
            self._connection = await connect(self._engine)
        if self._leads:
            await fetch(self._connection, _ALIVE)
        else:
            rows = await fetch(self._connection, _LOCK, {"role": self._role})
            self._leads = bool(rows[0]["leads"])
        return self._leads


@contextlib.asynccontextmanager
async def candidate(engine: AsyncEngine, role: str) -> AsyncIterator[Candidate]:
    """Stand for a role while the block lasts; one of the engine's connections is in use."""
    standing = Candidate(engine, role)
    try:
        yield standing
    finally:
        await standing.resign()
