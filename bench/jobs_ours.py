"""`python -m bench.jobs_ours`: FlowForge's engine, many attempts in one process.

Asked for `turns`, it does a single job of so many turns instead, and tells what each took.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Self

import psycopg
import sqlalchemy as sa
from pydantic import SecretStr
from sqlalchemy.ext.asyncio import AsyncEngine

from bench import jobs_meter
from bench.jobs_folder import Folders
from bench.jobs_meter import FILES, Meter
from flowforge.engines.agent.attempt import Services, attempt
from flowforge.engines.agent.transport import Model
from flowforge.engines.sandboxes.local import LocalProvider
from flowforge.engines.sandboxes.sandbox import Opener
from flowforge.ledger.journal import connection, jobs, news, presence
from flowforge.rules.jobs.accounts import Account
from flowforge.rules.jobs.spec import FileSet, JobSpec, Limits, SandboxChoice

_DISK_MB = 64


@dataclass
class Statements:
    """What is asked of the ledger, seen where the driver is called."""

    count: int = 0
    seconds: float = 0.0

    def watch(self, engine: AsyncEngine) -> None:
        """Count from now on."""
        told = self

        class Watched(psycopg.AsyncCursor[Any]):
            async def execute(self, *asked: Any, **more: Any) -> Self:
                began = time.monotonic()
                try:
                    return await super().execute(*asked, **more)
                finally:
                    told.count += 1
                    told.seconds += time.monotonic() - began

        def lend(connection: Any, *_: Any) -> None:
            connection.driver_connection.cursor_factory = Watched

        sa.event.listen(engine.sync_engine.pool, "checkout", lend)


@contextlib.asynccontextmanager
async def services(asked: dict[str, Any]) -> AsyncIterator[Services]:
    """What all attempts of this process share."""
    engine = connection.open_engine(asked["journal"])
    provider: Opener = LocalProvider() if asked["sandbox"] == "local" else Folders()
    account = Account(name="bench", api_key=SecretStr("rehearsal"), base_url=asked["url"])
    model = Model(account)
    try:
        async with news.listen(engine) as heard, presence.presence(engine) as present:
            yield Services(engine, present, heard, model, provider, "bench")
    finally:
        await model.close()
        await engine.dispose()


def spec(asked: dict[str, Any], *, turns: int) -> JobSpec:
    return JobSpec(
        prompt=asked["prompt"],
        model=asked["model"],
        workspace=FileSet(files=FILES),
        sandbox=SandboxChoice(memory_mb=256, disk_mb=_DISK_MB),
        limits=Limits(turns=turns, usd=1_000),
    )


async def do_one(with_them: Services, asked: dict[str, Any]) -> float:
    """Submit a job and bring it to its end; how many seconds it took until its first turn."""
    began = time.monotonic()
    job, _ = await jobs.submit(with_them.engine, spec(asked, turns=60))
    async with attempt(with_them, job) as work:
        seconds = time.monotonic() - began
        while await work.step() is not None:
            pass
        ended = await work.finish()
    assert ended.result is not None
    assert (ended.state, ended.result["turns"]) == ("succeeded", jobs_meter.TURNS), ended
    assert ended.result["patch"]["proven"], ended
    return seconds


async def many(asked: dict[str, Any], meter: Meter) -> None:
    """A job alone, then all others at once, then one alone in a process that is warm."""
    async with services(asked) as with_them:
        await do_one(with_them, asked)
        meter.started()
        statements = Statements()
        statements.watch(with_them.engine)
        await asyncio.gather(*(do_one(with_them, asked) for _ in range(asked["jobs"])))
        meter.done(statements=statements.count)
        jobs_meter.tell(job_start=await do_one(with_them, asked))


async def long(asked: dict[str, Any]) -> None:
    """A single job, turn by turn."""
    async with services(asked) as with_them:
        statements = Statements()
        statements.watch(with_them.engine)
        job, _ = await jobs.submit(with_them.engine, spec(asked, turns=asked["turns"] + 1))
        async with attempt(with_them, job) as work:
            before = (0, 0.0, time.process_time())
            while await work.step() is not None:
                now = (statements.count, statements.seconds, time.process_time())
                count, seconds, cpu = (b - a for a, b in zip(before, now, strict=True))
                jobs_meter.tell(statements=count, journal_seconds=seconds, cpu=cpu)
                before = now
            await work.finish()


def work(asked: dict[str, Any], meter: Meter) -> None:
    asyncio.run(long(asked) if "turns" in asked else many(asked, meter))


if __name__ == "__main__":
    jobs_meter.run(work)
