from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from flowforge import ledger
from flowforge.errors import Damaged, Refused, Unavailable
from flowforge.ledger.journal import jobs, money, orphans, turns
from flowforge.ledger.journal.connection import open_engine, run
from flowforge.ledger.journal.news import listen
from flowforge.ledger.journal.presence import presence
from tests.ledger.journal.servers import Server
from tests.ledger.journal.steps import MODEL, a_job, a_turn, on


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path)
    server.start()
    ledger.migrate(server.url)
    try:
        yield server
    finally:
        if server.runs:
            server.kill()


def test_a_job_goes_on_after_its_journal_was_away(server: Server) -> None:
    async def story(engine: AsyncEngine) -> None:
        job = await a_job(engine)
        async with presence(engine) as here, listen(engine):
            lease = await here.claim(job, "w")
            await a_turn(engine, lease, 1)
            await turns.begin(engine, lease, 2, "h", MODEL)
            await asyncio.to_thread(server.kill)
            for _ in range(2):
                with pytest.raises(Unavailable, match="did not answer"):
                    await money.reserve(engine, lease, 2, 1, Decimal("0.1"), MODEL)
                with pytest.raises(Unavailable, match="did not answer"):
                    await here.renew(lease)
            await asyncio.to_thread(server.start)
            await here.renew(lease)
            assert await orphans.list_orphans(engine, grace=0) == []
            for _ in range(8):  # each connection that died says so once at most
                with contextlib.suppress(Unavailable):
                    await jobs.get(engine, job)
            await a_turn(engine, lease, 2)
        assert [turn.n for turn in await turns.read(engine, job)] == [1, 2]
        assert (await jobs.get(engine, job)).money.cost_usd == Decimal("0.02")

    on(server.url, story)


def test_who_is_cancelled_while_connecting_leaves_no_connection(url: str) -> None:
    one = sa.text("SELECT 1 AS one")
    others = sa.text("""
        SELECT count(*) AS n FROM pg_stat_activity
         WHERE application_name = 'flowforge-journal' AND pid <> pg_backend_pid()
    """)

    async def story(engine: AsyncEngine) -> None:
        for steps in range(0, 60, 3):
            fresh = open_engine(url)
            asking = asyncio.create_task(run(fresh, one))
            for _ in range(steps):
                await asyncio.sleep(0)
            asking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asking
            await fresh.dispose()
        gc.collect()  # one that was lost would say so here
        async with asyncio.timeout(10):
            while (await run(engine, others))[0]["n"]:
                await asyncio.sleep(0.02)
        assert await run(engine, one) == [{"one": 1}]

    on(url, story)


def test_what_it_cannot_be_told_is_a_fault_that_repeats_no_value(url: str) -> None:
    async def story(engine: AsyncEngine) -> None:
        broken = sa.text("SELECT CAST('a-secret' AS integer)")
        with pytest.raises(Damaged, match="22P02") as caught:
            await run(engine, broken)
        assert "a-secret" not in str(caught.value)

    on(url, story)


def test_missing_tables_are_refused_with_the_command_that_makes_them(empty_url: str) -> None:
    async def story(engine: AsyncEngine) -> None:
        with pytest.raises(Refused, match=r"flowforge\.ledger upgrade"):
            await jobs.list_jobs(engine)

    on(empty_url, story)


def test_a_password_is_in_no_message() -> None:
    async def story() -> None:
        engine = open_engine("postgresql://someone:s3cret@127.0.0.1:1/flowforge")
        with pytest.raises(Unavailable) as caught:
            await jobs.list_jobs(engine)
        assert "someone@127.0.0.1:1/flowforge" in str(caught.value)
        assert "s3cret" not in f"{caught.value!r} {caught.value.__cause__!r} {engine!r}"
        await engine.dispose()

    asyncio.run(story())
