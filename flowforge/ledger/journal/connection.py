"""Reach the ledger from asyncio: mostly one statement at a time, each its own transaction."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Mapping
from typing import Any

import psycopg
import sqlalchemy as sa
from psycopg.pq import TransactionStatus
from psycopg.rows import dict_row
from psycopg.types.numeric import Int8
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from flowforge.errors import Unavailable
from flowforge.ledger.connection import CONNECT_TIMEOUT_SECONDS, SESSION, engine_url, explain
from flowforge.ledger.journal.text import storable

Row = Mapping[str, Any]
_HELD = 2  # one connection for locks, one for news
_DIALECT = PGDialect_psycopg()  # type: ignore[no-untyped-call]


def open_engine(url: str, *, connections: int = 5) -> AsyncEngine:
    """Prepare access to the ledger; the first connection is made by the first question.

    A connection that died is found out by the statement sent on it, which then says `Unavailable`:
    every write may be repeated, and asking before each one would cost a round trip.

    Args:
        url: As for `flowforge.ledger.connect`.
        connections: How many at most are open at once, besides those held for locks and news.

    Raises:
        Refused: It is not the URL of one PostgreSQL database.
    """
    return create_async_engine(
        engine_url(url),
        connect_args={
            "connect_timeout": CONNECT_TIMEOUT_SECONDS,
            "application_name": "flowforge-journal",
            "options": SESSION,
            # A peer that vanished without a word is noticed in seconds.
            "keepalives_idle": 5,
            "keepalives_interval": 2,
            "keepalives_count": 3,
            "tcp_user_timeout": 15_000,
        },
        isolation_level="AUTOCOMMIT",
        hide_parameters=True,
        pool_size=connections + _HELD,
        max_overflow=0,
        pool_timeout=30,
        pool_recycle=1800,
        pool_reset_on_return=None,  # nobody gives one back that is not at rest
    )


async def run(
    engine: AsyncEngine, statement: sa.TextClause, parameters: Row | None = None
) -> list[Row]:
    """Run one statement in a transaction of its own and return its rows.

    Raises:
        Unavailable: The ledger did not answer; the statement may or may not have taken effect.
        Refused: It answered no: password, rights, missing tables.
    """
    async with connected(engine) as connection:
        return await fetch(connection, statement, parameters)


async def fetch(
    connection: AsyncConnection, statement: sa.TextClause, parameters: Row | None = None
) -> list[Row]:
    """Run one statement on a connection and return its rows.

    SQLAlchemy looks after the connections; the statement goes straight to the driver, which takes
    a third of the time. What PostgreSQL does not take as text is replaced in every parameter: see
    `storable`.
    """
    sent = {name: _sendable(value) for name, value in (parameters or {}).items()}
    async with driver(connection).cursor(row_factory=dict_row) as cursor:
        await cursor.execute(_spelled(statement), sent)
        return list(await cursor.fetchall()) if cursor.description else []


@contextlib.asynccontextmanager
async def transaction(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """Several statements as one transaction, with errors in our words.

    Raises:
        Unavailable: The ledger did not answer; the transaction may be tried again.
        Refused: It answered no: password, rights, missing tables.
    """
    async with connected(engine) as connection, driver(connection).transaction():
        yield connection


@contextlib.asynccontextmanager
async def connected(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """A connection for as long as the block lasts, with its errors in our words."""
    async with translated(engine):
        connection = await connect(engine)
        try:
            yield connection
        finally:
            if connection.invalidated or _is_at_rest(connection):
                await connection.close()
            else:
                await asyncio.shield(_drop(connection))


async def connect(engine: AsyncEngine) -> AsyncConnection:
    """Take a connection. Who is cancelled meanwhile leaves none behind, not even half of one."""
    if engine.pool.checkedin():  # type: ignore[attr-defined]
        return await engine.connect()  # there is one: nothing is waited for
    opening = asyncio.create_task(_open(engine))
    try:
        return await asyncio.shield(opening)
    except asyncio.CancelledError:
        with contextlib.suppress(sa.exc.SQLAlchemyError):
            await (await opening).close()
        raise


def driver(connection: AsyncConnection) -> psycopg.AsyncConnection[Any]:
    """The driver's connection behind one of SQLAlchemy's."""
    assert connection.sync_connection is not None
    found = connection.sync_connection.connection.driver_connection
    assert isinstance(found, psycopg.AsyncConnection)
    return found


@contextlib.asynccontextmanager
async def translated(engine: AsyncEngine) -> AsyncIterator[None]:
    """Say in our words what the driver says."""
    try:
        yield
    except sa.exc.TimeoutError as error:
        raise Unavailable(
            "The journal's connections are all busy.", hint="Wait a moment and try again."
        ) from error
    except sa.exc.DBAPIError as error:
        raise explain(error.orig, engine.url) from error
    except psycopg.Error as error:
        raise explain(error, engine.url) from error


async def _open(engine: AsyncEngine) -> AsyncConnection:
    return await engine.connect()


def _is_at_rest(connection: AsyncConnection) -> bool:
    """Whether another may use it: it lives, and nothing is under way on it."""
    return driver(connection).info.transaction_status == TransactionStatus.IDLE


async def _drop(connection: AsyncConnection) -> None:
    if driver(connection).closed:
        # SQLAlchemy shall see it, too: then it trusts no other connection of the same age.
        with contextlib.suppress(sa.exc.DBAPIError):
            await connection.exec_driver_sql("SELECT 1")
    else:
        await connection.invalidate()
    await connection.close()


@functools.cache
def _spelled(statement: sa.TextClause) -> str:
    """A statement as the driver takes it."""
    return str(statement.compile(dialect=_DIALECT))


def _sendable(value: Any) -> Any:
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, list):
        return [_sendable(part) for part in value]
    # The driver would send each number in the least type it fits: every mix of sizes would be
    # another statement to the server, parsed and planned anew.
    return Int8(value) if type(value) is int else value
