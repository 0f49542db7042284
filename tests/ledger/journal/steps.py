"""What the tests of the journal do again and again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any, TypeVar

from sqlalchemy.ext.asyncio import AsyncEngine

from flowforge.ledger.journal import jobs, leases, money, turns
from flowforge.ledger.journal.connection import open_engine
from flowforge.ledger.journal.leases import Lease
from flowforge.ledger.journal.presence import presence
from flowforge.rules.jobs.prices import Usage
from flowforge.rules.jobs.records import Reply
from flowforge.rules.jobs.spec import JobSpec

T = TypeVar("T")
MODEL = "claude-opus-5-5"
USAGE = Usage(input_tokens=100, write_5m_tokens=20, read_tokens=300, output_tokens=50)


def on(url: str, story: Callable[[AsyncEngine], Awaitable[T]], connections: int = 5) -> T:
    """Tell a story on an engine of its own."""

    async def tell() -> T:
        engine = open_engine(url, connections=connections)
        try:
            return await story(engine)
        finally:
            await engine.dispose()

    return asyncio.run(tell())


def a_spec(**changes: Any) -> JobSpec:
    return JobSpec.model_validate({"prompt": "Do it.", "limits": {"usd": 2}} | changes)


async def a_job(engine: AsyncEngine, **changes: Any) -> str:
    job, _ = await jobs.submit(engine, a_spec(**changes))
    return job


async def a_lease(engine: AsyncEngine, **changes: Any) -> Lease:
    """A job that runs, without a lock: its lease alone keeps it."""
    job = await a_job(engine, **changes)
    async with presence(engine) as here:
        lease = await here.claim(job, "worker")
    await leases.advance(engine, lease, "running")
    return lease


async def a_turn(
    engine: AsyncEngine, lease: Lease, n: int, usd: str = "0.01", reserved: str = "0.1"
) -> None:
    """One paid turn that calls one tool."""
    await turns.begin(engine, lease, n, f"hash-{n}", MODEL)
    await money.reserve(engine, lease, n, 1, Decimal(reserved), MODEL)
    reply = Reply(text=f'{{"b": {n}, "a": 1}}', stop_reason="tool_use", request_id="req_1")
    await turns.finish(engine, lease, n, 1, reply, usage=USAGE, usd=Decimal(usd))
    await turns.begin_tool(engine, lease, n, 0, f"toolu_{n}", name="bash", input='{"x": 1}')
    await turns.finish_tool(
        engine, lease, n, f"toolu_{n}", result="done", is_error=False, milliseconds=5, tree="t1"
    )


async def end(engine: AsyncEngine, lease: Lease) -> None:
    await leases.advance(engine, lease, "finishing")
    await leases.release(engine, lease, "succeeded", result={"patch": "patch"})
