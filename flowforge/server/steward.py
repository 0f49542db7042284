"""Look after agent jobs for as long as the server lives.

Of several servers one looks after jobs and flow runs. Callbacks are dealt out one by one, and
sandboxes may be on one machine only, so every server sees to those.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from flowforge.engines.agent import callbacks
from flowforge.engines.agent.stewarding import Runs, Steward
from flowforge.ledger.journal import artifacts
from flowforge.ledger.journal.leading import Candidate, candidate
from flowforge.rules.jobs.profiles import Known
from flowforge.server.journal import Journal
from flowforge.server.patience import Patience
from flowforge.server.sweeper import Sweeper

INTERVAL_SECONDS = 2.0
SOONEST_SECONDS = 0.5
"""News comes with every word a model says; so often at most it is looked into."""

TIDY_SECONDS = 15.0
SWEEP_SECONDS = 3600.0
_ROLE = "steward of jobs"

log = logging.getLogger("flowforge.jobs")


async def keep_jobs(
    journal: Journal, runs: Runs, profiles: Callable[[], Awaitable[Known]], secret: str | None
) -> None:
    """Look after jobs until cancelled.

    Args:
        journal: Where they are.
        runs: Where their flow runs are.
        profiles: Tells the sandbox profiles there are.
        secret: Signs callbacks; without one none is told.
    """
    tending = [_lead(journal, runs), Sweeper(journal, profiles).run()]
    if secret is not None:
        tending.append(_tell(journal, secret))
    async with asyncio.TaskGroup() as group:
        for work in tending:
            group.create_task(work)


async def _lead(journal: Journal, runs: Runs) -> None:
    steward, patience = Steward(journal.engine, runs), Patience("looking after jobs")
    async with candidate(journal.engine, _ROLE) as standing:
        with journal.news.watch_all() as watch:
            tidied = swept = time.monotonic()
            while True:
                watch.seen()
                began = time.monotonic()
                await patience.attempt(lambda: _tick(standing, steward))
                if began - tidied > TIDY_SECONDS:
                    tidied = began
                    await patience.attempt(lambda: _tidy(standing, steward))
                if began - swept > SWEEP_SECONDS:
                    swept = began
                    await patience.attempt(lambda: _drop_unused(standing, journal))
                await watch.wait(INTERVAL_SECONDS)
                await asyncio.sleep(max(0.0, SOONEST_SECONDS - (time.monotonic() - began)))


async def _tick(standing: Candidate, steward: Steward) -> None:
    if await standing.leads():
        await steward.tick()


async def _tidy(standing: Candidate, steward: Steward) -> None:
    if await standing.leads():
        await steward.tidy()


async def _drop_unused(standing: Candidate, journal: Journal) -> None:
    if await standing.leads():
        await artifacts.sweep(journal.engine)


async def _tell(journal: Journal, secret: str) -> None:
    patience = Patience("callbacks of jobs")

    async def tell() -> None:
        while await callbacks.tell_due(journal.engine, secret):
            pass

    while True:
        await patience.attempt(tell)
        await asyncio.sleep(INTERVAL_SECONDS)
