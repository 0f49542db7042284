"""The journal of agent jobs as one server process has it open."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncEngine

from flowforge.ledger.journal.connection import open_engine
from flowforge.ledger.journal.news import News, listen
from flowforge.rules.jobs.spec import JobSpec
from flowforge.rules.jobs.submission import Problem

CONNECTIONS = 8

Check = Callable[[JobSpec], Awaitable[list[Problem]]]
"""Asks others, such as Prefect's blocks, what they know to be wrong with a spec."""


@dataclass(frozen=True)
class Journal:
    """Where jobs are, and how one hears of them."""

    engine: AsyncEngine
    news: News
    checks: Sequence[Check] = ()
    takes_callbacks: bool = False
    """Whether there is a secret to sign them with."""


@asynccontextmanager
async def open_journal(
    url: str, *, checks: Sequence[Check] = (), takes_callbacks: bool = False
) -> AsyncIterator[Journal]:
    """Open the journal for this process; a ledger that is down is connected to when it is back.

    Raises:
        Refused: It is not the URL of one PostgreSQL database.
    """
    engine = open_engine(url, connections=CONNECTIONS)
    try:
        async with listen(engine) as news:
            yield Journal(engine, news, checks, takes_callbacks)
    finally:
        await engine.dispose()
