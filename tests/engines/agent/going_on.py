"""What stories of jobs that are stopped, or go on, have in common."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from flowforge.engines.agent.finishing import Outcome
from flowforge.ledger.journal import artifacts
from tests.engines.agent.stage import Stage

ADD = {"bash": "echo x >> marks; wc -l < marks"}


@asynccontextmanager
async def under_way(stage: Stage, job: str) -> AsyncIterator[asyncio.Task[Outcome]]:
    """An attempt that goes on while the block does something."""
    task = asyncio.create_task(stage.work(job))
    try:
        yield task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def patch_of(stage: Stage, job: str) -> str:
    return (await artifacts.get(stage.engine, job, "patch")).decode()
