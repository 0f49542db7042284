from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from decimal import Decimal

import pytest

from flowforge.engines.agent.hands import DIED
from flowforge.engines.agent.steps import ATTEMPT, TURN
from flowforge.ledger.journal import artifacts, orphans
from flowforge.ledger.journal.orphans import Orphan
from tests.engines.agent.stage import Stage, on_stage
from tests.engines.agent.worker import working

SCRIPT = (
    {"text": "One.", "tools": [{"bash": "echo one >> log"}]},
    {"text": "Two.", "tools": [{"bash": "echo two >> log"}, {"bash": "cat log"}]},
    {"text": "Three.", "tools": [{"bash": "echo three >> log; cat log"}]},
    {"text": "Done."},
)
STEPS = (*ATTEMPT, *(f"{step}-{n}" for step in TURN for n in (1, 3)))


async def until_noticed(stage: Stage, job: str) -> Orphan:
    """The job as an orphan, within five seconds."""
    async with asyncio.timeout(5):
        while True:
            found = [o for o in await orphans.list_orphans(stage.engine, grace=0) if o.job == job]
            if found:
                return found[0]
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("step", STEPS)
def test_a_worker_that_is_killed_costs_one_call_at_most_and_does_nothing_twice(
    journal_url: str, step: str
) -> None:
    async def story(stage: Stage) -> None:
        job = await stage.submit(*SCRIPT)
        with working(journal_url, stage.server.url, job, kill_at=step) as process:
            await asyncio.to_thread(process.join, 60)
            assert process.exitcode == -signal.SIGKILL
            orphan = await until_noticed(stage, job)
            assert (orphan.why, orphan.fence) == ("its worker was gone", 1)
        outcome = await stage.work(job)
        assert (outcome.state, outcome.reason) == ("succeeded", None)

        counters = stage.server.state.counters
        repeated = step.startswith("reply")
        assert counters.billed_turns == len(SCRIPT) + repeated
        patch = (await artifacts.get(stage.engine, job, "patch")).decode()
        lines = [line[1:] for line in patch.splitlines() if line[:1] == "+" and line[:3] != "+++"]
        died = step.startswith(("intent", "ran"))
        expected = ["one", "two", "three"]
        if died:
            expected.remove("one" if step.endswith("1") else "three")
        assert lines == expected
        results = await stage.results(job)
        assert len(results) == 4
        assert sum(result.startswith(DIED) for result in results) == died
        assert outcome.result is not None
        assert outcome.result["patch"]["proven"] is True

        calls = await stage.calls(job)
        interrupted = step.startswith(("ask", "reply"))
        assert [c.outcome for c in calls].count("unknown") == interrupted
        found = await stage.job(job)
        assert found.money.cost_usd == sum(c.usd for c in calls if c.outcome == "paid") > 0
        assert found.money.unknown_usd == sum((c.unknown_usd for c in calls), Decimal(0))
        assert (found.money.unknown_usd > 0) == interrupted
        assert found.money.reserved_usd == 0

        record = (await artifacts.get(stage.engine, job, "transcript.jsonl")).decode()
        turns = [json.loads(line) for line in record.splitlines()[1:]]
        assert [turn["n"] for turn in turns] == [1, 2, 3, 4]
        assert all(turn["reply"] and all(t["done"] for t in turn["tools"]) for turn in turns)
        numbers = [event.seq for event in await stage.events(job)]
        assert numbers == list(range(1, len(numbers) + 1))

    on_stage(journal_url, story)


def test_a_worker_that_is_told_to_stop_gives_its_job_back_within_seconds(
    journal_url: str,
) -> None:
    async def story(stage: Stage) -> None:
        job = await stage.submit(
            SCRIPT[0], {"text": "Slow. " * 400, "seconds": 60}, {"text": "Done."}
        )
        with working(journal_url, stage.server.url, job) as process:
            async with asyncio.timeout(30):
                while not any(e.data["n"] == 2 for e in await stage.events(job, "text")):
                    await asyncio.sleep(0.05)
            assert process.pid is not None
            began = time.monotonic()
            os.kill(process.pid, signal.SIGTERM)
            async with asyncio.timeout(10):
                while (await stage.job(job)).state != "queued":
                    await asyncio.sleep(0.05)
            assert time.monotonic() - began < 5
            await asyncio.to_thread(process.join, 10)
            assert process.exitcode == 1
        counters = stage.server.state.counters
        assert counters.aborted_streams == 1
        found = await stage.job(job)
        assert found.reason == "its worker was stopped"
        assert found.money.reserved_usd == 0
        assert found.money.unknown_usd > 0
        async with stage.attempt(job) as work:  # anywhere, at once
            assert work.next_turn == 2

    on_stage(journal_url, story)
