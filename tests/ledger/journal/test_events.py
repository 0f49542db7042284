from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from flowforge.errors import Refused
from flowforge.ledger.journal import events, jobs
from flowforge.ledger.journal.connection import run
from flowforge.ledger.journal.leases import Lease
from flowforge.ledger.journal.news import News, listen
from flowforge.ledger.journal.presence import presence
from flowforge.rules.jobs.records import Event
from tests.ledger.journal.steps import a_job, a_lease, end, on


async def write(engine: AsyncEngine, job: Lease | str, name: str, batches: int) -> None:
    before = 0
    for n in range(batches):
        batch: list[tuple[str, dict[str, Any]]] = [
            ("step", {"by": name, "n": n, "part": part}) for part in range(n % 3 + 1)
        ]
        if isinstance(job, Lease):
            await events.append(engine, job, batch, before=before)
            before += len(batch)
        else:
            await events.append(engine, job, batch)


async def collect(stream: AsyncIterator[Event], most: int = 10_000) -> list[Event]:
    seen = []
    async for event in stream:
        seen.append(event)
        if len(seen) == most:
            break
    return seen


def test_a_reader_that_comes_back_misses_nothing_while_four_write(url: str) -> None:
    async def story(engine: AsyncEngine) -> None:
        lease = await a_lease(engine)

        async def work() -> None:
            writers = [write(engine, lease.job if n else lease, f"{n}", 20) for n in range(4)]
            await asyncio.gather(*writers)
            await end(engine, lease)

        async with listen(engine) as news:
            working = asyncio.create_task(work())
            seen: list[Event] = []
            while not (working.done() and len(seen) >= 4 * 39):
                after = seen[-1].seq if seen else 0
                stream = events.follow(engine, news, lease.job, after=after)
                seen += await collect(stream, most=17)
            await working
            left = events.follow(engine, news, lease.job, after=seen[-1].seq)
            assert await collect(left) == []
        assert [event.seq for event in seen] == list(range(1, 4 * 39 + 1))
        for name in "0123":
            steps = [e.data["n"] for e in seen if e.data["by"] == name]
            assert steps == sorted(steps)

    on(url, story, connections=8)


def test_a_reader_is_woken_rather_than_left_to_look(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "POLL_SECONDS", 60.0)

    async def story(engine: AsyncEngine) -> None:
        job = await a_job(engine)
        async with listen(engine) as news:
            await heard(engine, news, job)
            stream = events.follow(engine, news, job)
            reading = asyncio.create_task(collect(stream, most=1))
            await asyncio.sleep(0)
            await events.append(engine, job, [("hello", {"text": "\0"})])
            async with asyncio.timeout(10):
                assert [event.data for event in await reading] == [{"text": "\ufffd"}]

    on(url, story)


async def heard(engine: AsyncEngine, news: News, job: str) -> None:
    """Wait until the news of a job arrives."""
    with news.watch(job) as watch:
        async with asyncio.timeout(10):
            while not await watch.wait(0.05):
                await run(engine, sa.text("SELECT pg_notify('flowforge_jobs', :job)"), {"job": job})


def test_a_worker_is_woken_by_what_others_do_to_its_job_and_not_by_its_own_events(
    url: str,
) -> None:
    async def story(engine: AsyncEngine) -> None:
        job = await a_job(engine)
        async with listen(engine) as news, presence(engine) as here:
            await heard(engine, news, job)
            with news.watch_as_worker(job) as worker, news.watch(job) as reader:
                lease = await here.claim(job, "w")
                assert await worker.wait(10)  # an earlier worker would have lost the job
                worker.seen()
                reader.seen()
                await events.append(engine, lease, [("text", {})])
                assert await reader.wait(10)
                assert not await worker.wait(0)
                await jobs.request_cancel(engine, job, "ada")
                assert await worker.wait(10)

    on(url, story)


def test_news_are_heard_again_after_the_connection_was_cut(url: str) -> None:
    cut = sa.text("""
        SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'
    """)

    async def story(engine: AsyncEngine) -> None:
        job = await a_job(engine)
        async with listen(engine) as news:
            await heard(engine, news, job)
            assert len(await run(engine, cut)) == 1
            await heard(engine, news, job)

    on(url, story)


def test_who_follows_a_job_that_is_not_there_is_told(url: str) -> None:
    async def story(engine: AsyncEngine) -> None:
        with pytest.raises(Refused, match="There is no job"):
            await collect(events.follow(engine, News(), "job_none"))
        with pytest.raises(Refused, match="There is no job"):
            await events.append(engine, "job_none", [("x", {})])

    on(url, story)


def test_events_are_read_from_a_number_on_and_so_many_at_a_time(url: str) -> None:
    async def story(engine: AsyncEngine) -> None:
        job = await a_job(engine)
        await events.append(engine, job, [("step", {"n": n}) for n in range(5)])
        page = await events.read(engine, job, after=2, limit=2)
        assert [(event.seq, event.data["n"]) for event in page] == [(3, 2), (4, 3)]

    on(url, story)


def test_what_an_attempt_tells_again_is_written_once(url: str) -> None:
    async def story(engine: AsyncEngine) -> None:
        lease = await a_lease(engine)
        happened = [("step", {"n": n}) for n in range(6)]
        await events.append(engine, lease, happened[:2], before=0)
        await events.append(engine, lease.job, [("from outside", {})])
        for most in (4, 4, 5):
            await events.append(engine, lease, happened[2:most], before=2)
        await events.append(engine, lease, happened[5:], before=5)
        found = await events.read(engine, lease.job)
        assert [event.seq for event in found] == list(range(1, 8))
        assert [e.data["n"] for e in found if e.kind == "step"] == list(range(6))

    on(url, story)
