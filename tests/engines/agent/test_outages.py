from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from flowforge import ledger
from tests.engines.agent.stage import Stage, on_stage
from tests.ledger.journal.servers import Server


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path)
    server.start()
    ledger.migrate(server.url)
    try:
        yield server
    finally:
        server.kill()


@pytest.mark.slow
def test_a_job_outlasts_a_restart_of_its_journal_and_pays_nothing_meanwhile(
    journal: Server,
) -> None:
    async def story(stage: Stage) -> None:
        job = await stage.submit(
            {"tools": [{"bash": "echo x >> marks; wc -l < marks"}]},
            {"text": "word " * 100, "seconds": 1, "tools": [{"bash": "wc -l < marks"}]},
            {"text": "Done."},
        )
        task = asyncio.create_task(stage.work(job))
        while stage.asked < 2:
            await asyncio.sleep(0.02)
        await asyncio.to_thread(journal.kill)
        await asyncio.sleep(2)
        assert not task.done()
        assert stage.asked == 2  # the reply came, and nobody asked for the next
        await asyncio.to_thread(journal.start)
        outcome = await task
        assert (outcome.state, outcome.reason, stage.asked) == ("succeeded", None, 3)
        assert await stage.results(job) == ["1", "1"]
        assert [call.outcome for call in await stage.calls(job)] == ["paid"] * 3
        found = await stage.job(job)
        assert found.money.unknown_usd == found.money.reserved_usd == 0
        seen = [event.seq for event in await stage.events(job)]
        assert seen == list(range(1, len(seen) + 1))

    on_stage(journal.url, story)
