"""Is the database taking writes? Asked every few seconds, so that `/ready` never has to.

The one row is in a table of ours beside Prefect's own, so a database that is full, read-only or a
standby is not ready, although it answers.
"""

from __future__ import annotations

import asyncio
import logging
import platform
import time
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import StaticPool

from flowforge.ledger.connection import engine_url
from flowforge.ledger.tables import SCHEMA, heartbeats

INTERVAL_SECONDS = 5.0
STALE_AFTER_SECONDS = 10.0
_TIMEOUT_SECONDS = 4.0
_FORGET_AFTER = timedelta(days=1)

log = logging.getLogger("flowforge.server")


class Prober:
    """Writes a row in a short transaction, again and again, and remembers how that went."""

    def __init__(self, engine: AsyncEngine, port: int) -> None:
        self.engine = engine
        self.process = f"{platform.node()}:{port}"
        self.last_success: float | None = None
        self.reason: str | None = "no write was tried yet"
        self._has_table = False

    @property
    def age_seconds(self) -> float | None:
        """Seconds since the last write that succeeded."""
        return None if self.last_success is None else time.monotonic() - self.last_success

    @property
    def is_ready(self) -> bool:
        """Whether a write succeeded lately."""
        age = self.age_seconds
        return age is not None and age <= STALE_AFTER_SECONDS

    async def run(self) -> None:
        """Probe until cancelled."""
        try:
            while True:
                await self.probe()
                await asyncio.sleep(INTERVAL_SECONDS)
        finally:
            await self.engine.dispose()

    async def probe(self) -> None:
        """Try one write."""
        was_well = self.reason is None
        try:
            async with asyncio.timeout(_TIMEOUT_SECONDS):
                await self._write()
        except TimeoutError:
            self.reason = f"a write took longer than {_TIMEOUT_SECONDS:.0f} s"
        except (OSError, sa.exc.SQLAlchemyError) as error:
            self.reason = _first_line(error)
        else:
            self.last_success, self.reason = time.monotonic(), None
            if not was_well:
                log.info("the database takes writes")
            return
        self._has_table = False  # another database may come back
        if was_well:
            log.warning("the database does not take writes: %s", self.reason)
        await self.engine.dispose(close=False)

    async def _write(self) -> None:
        now = datetime.now(UTC)
        async with self.engine.begin() as connection:
            if not self._has_table:
                await connection.run_sync(_make_table)
                long_gone = heartbeats.c.beat_at < now - _FORGET_AFTER
                await connection.execute(sa.delete(heartbeats).where(long_gone))
            changed = await connection.execute(
                sa.update(heartbeats)
                .where(heartbeats.c.process == self.process)
                .values(beat_at=now)
                .returning(heartbeats.c.process)
            )
            if changed.first() is None:
                await connection.execute(
                    sa.insert(heartbeats).values(process=self.process, beat_at=now)
                )
        self._has_table = True


def open_database(prefect_url: str, *, is_postgres: bool) -> AsyncEngine:
    """Prepare one connection to the database Prefect uses, apart from Prefect's own pool.

    Args:
        prefect_url: `DATABASE_URL`, or Prefect's URL of an SQLite file.
        is_postgres: Whether it is the former.
    """
    if is_postgres:
        return create_async_engine(
            engine_url(prefect_url),
            connect_args={
                "connect_timeout": 4,
                "application_name": "flowforge-prober",
                "options": "-c statement_timeout=3000 -c lock_timeout=2000",
            },
            hide_parameters=True,
            pool_size=1,
            max_overflow=0,
        )
    return create_async_engine(
        prefect_url, connect_args={"timeout": 3}, poolclass=StaticPool
    ).execution_options(schema_translate_map={SCHEMA: None})


def _make_table(connection: sa.Connection) -> None:
    if connection.dialect.name == "postgresql":
        inspector = sa.inspect(connection)
        if inspector.has_table(heartbeats.name, schema=SCHEMA):
            return
        connection.execute(sa.schema.CreateSchema(SCHEMA, if_not_exists=True))
    connection.execute(sa.schema.CreateTable(heartbeats, if_not_exists=True))


def _first_line(error: Exception) -> str:
    cause = getattr(error, "orig", None) or error
    lines = str(cause).strip().splitlines()
    return lines[0][:300] if lines else type(cause).__name__
