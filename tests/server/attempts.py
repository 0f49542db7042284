"""Attempts of agent jobs without a model: what a worker writes down, through the real journal."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, TypeVar

from sqlalchemy.ext.asyncio import AsyncEngine

from flowforge.ledger.journal import artifacts, breakers, events, jobs, leases, money, turns
from flowforge.ledger.journal.connection import open_engine
from flowforge.ledger.journal.leases import Lease
from flowforge.ledger.journal.presence import presence
from flowforge.rules.jobs import accounts
from flowforge.rules.jobs.prices import Usage
from flowforge.rules.jobs.records import Reply
from flowforge.rules.jobs.states import End

T = TypeVar("T")
MODEL = "claude-opus-5-5"
USAGE = Usage(input_tokens=1000, output_tokens=100)
PATCH = b"diff --git a/a.txt b/a.txt\n--- a/a.txt\n+++ b/a.txt\n@@ -1 +1 @@\n-one\n+two\n"


def on(url: str, story: Callable[[AsyncEngine], Awaitable[T]]) -> T:
    """Tell a story on an engine of its own."""

    async def tell() -> T:
        engine = open_engine(url)
        try:
            return await story(engine)
        finally:
            await engine.dispose()

    return asyncio.run(tell())


@asynccontextmanager
async def attempt(engine: AsyncEngine, job: str) -> AsyncIterator[Lease]:
    """A worker that has the job while the block lasts."""
    async with presence(engine) as here:
        lease = await here.claim(job, "worker")
        await leases.advance(engine, lease, "running")
        await events.append(engine, lease.job, [("state", {"state": "running"})])
        yield lease


async def take_turn(engine: AsyncEngine, lease: Lease, n: int, usd: str = "0.0123455") -> None:
    """One paid turn that runs one command, and tells of it."""
    asked = [("turn", {"n": n, "state": "asking"})]
    await events.append(engine, lease.job, asked)
    await turns.begin(engine, lease, n, f"hash-{n}", MODEL)
    await money.reserve(engine, lease, n, 1, Decimal("0.1"), MODEL)
    content: list[dict[str, Any]] = [
        {"type": "text", "text": f"Step {n}."},
        {"type": "tool_use", "id": f"toolu_{n}", "name": "bash", "input": {"command": "make"}},
    ]
    reply = Reply(text=json.dumps({"content": content}), stop_reason="tool_use")
    await turns.finish(engine, lease, n, 1, reply, usage=USAGE, usd=Decimal(usd))
    await turns.begin_tool(engine, lease, n, 0, f"toolu_{n}", name="bash", input="make")
    await turns.finish_tool(
        engine, lease, n, f"toolu_{n}", result="made", is_error=False, milliseconds=12, tree="t"
    )
    tool = {"n": n, "tool_use_id": f"toolu_{n}", "name": "bash"}
    replied = {"n": n, "state": "replied", "stop_reason": "tool_use", "text": f"Step {n}."}
    done = {"state": "done", "is_error": False, "ms": 12, "output": "made"}
    told = [("turn", {**replied, "tools": ["bash"], "usd": usd})]
    told += [("tool", {**tool, "state": "started", "input": "make"}), ("tool", {**tool, **done})]
    await events.append(engine, lease.job, told)


async def end(engine: AsyncEngine, lease: Lease, state: End = "succeeded") -> None:
    """The end of a job that changed a file."""
    changed = {"proven": True, "base": "b", "tree": "t", "files": ["a.txt"], "insertions": 1}
    patch = {**changed, "deletions": 1}
    ended = {"state": state, "reason": None, "usd": "0.024691", "turns": 2, "patch": patch}
    result = {
        **ended,
        "text": "It is done.",
        "output": None,
        "usage": USAGE.model_dump(),
        "rehearsal": True,
    }
    await artifacts.put(engine, lease, "patch", "text/x-patch", PATCH)
    await artifacts.put(engine, lease, "output-1-0", "text/plain", b"made\n")
    await leases.advance(engine, lease, "finishing")
    await events.append(engine, lease.job, [("ended", ended)])
    await leases.release(engine, lease, state, result=result)


async def work(engine: AsyncEngine, job: str, state: End = "succeeded", turns: int = 2) -> None:
    """A whole job. When it cannot be done it is cancelled, so that nobody follows it for ever."""
    try:
        async with attempt(engine, job) as lease:
            for n in range(1, turns + 1):
                await take_turn(engine, lease, n)
            await end(engine, lease, state)
    except BaseException:
        await jobs.request_cancel(engine, job, "a test that failed")
        raise


async def hold(engine: AsyncEngine, job: str, account: str) -> None:
    """Let a job wait for an account that is not accepted."""
    await breakers.open_breaker(engine, account, "HTTP 401: no")
    async with attempt(engine, job) as lease:
        later = datetime.now(UTC) + timedelta(hours=1)
        reason = accounts.held(account, "HTTP 401: no")
        await leases.release(engine, lease, "waiting", reason, not_before=later)
