from __future__ import annotations

import asyncio
import signal
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from anthropic.types.messages import MessageBatch

from flowforge.engines.agent.batches import Batches
from flowforge.ledger.journal import artifacts, breakers, prices, sweeping
from flowforge.ledger.journal.connection import run
from flowforge.rules.jobs import batches
from flowforge.rules.jobs.prices import cost
from flowforge.twin.model.faults import Fault
from tests.engines.agent.stage import Stage, on_stage
from tests.engines.agent.worker import working

ANSWER = {"text": "An answer of some length."}
LATER = 0.3


def relaxed() -> dict[str, Any]:
    """What makes a job go by batch."""
    return {"tools": [], "deadline": datetime.now(UTC) + timedelta(hours=25)}


async def made(stage: Stage) -> list[MessageBatch]:
    """The batches that the provider knows."""
    return [batch async for batch in stage.services.model.client.messages.batches.list()]


async def until_over(stage: Stage, job: str) -> str:
    """Look again and again, as often as it takes."""
    for _ in range(100):
        outcome = await stage.work(job)
        if outcome.state != "waiting":
            return outcome.state
        await asyncio.sleep(0.05)
    raise AssertionError(outcome.reason)


def test_a_job_that_has_time_goes_by_batch_for_half_the_price(journal_url: str) -> None:
    async def story(stage: Stage) -> None:
        job = await stage.submit(ANSWER, limits={"wall_seconds": 0.1}, **relaxed())
        outcome = await stage.work(job)
        assert outcome.state == "waiting"
        assert str(outcome.reason).startswith("batch: msgbatch_rehearsal_")
        found = await stage.job(job)
        assert found.not_before is not None
        wait = (found.not_before - datetime.now(UTC)).total_seconds()
        assert batches.FIRST_PAUSE_SECONDS - 5 < wait <= batches.FIRST_PAUSE_SECONDS
        (call,) = await stage.calls(job)
        assert found.money.unknown_usd == call.reserved_usd > 0
        assert job not in [
            one.job for one in await sweeping.list_hopeless(stage.engine, patience=0)
        ]

        assert await until_over(stage, job) == "succeeded"
        assert (stage.asked, len(await made(stage))) == (0, 1)
        (call,) = await stage.calls(job)
        price = await prices.price(stage.engine, call.model, call.at.date())
        assert call.usd == cost(price, call.usage) / 2 > 0
        found = await stage.job(job)
        assert found.money.cost_usd == call.usd
        assert found.money.unknown_usd == found.money.reserved_usd == 0
        assert found.result is not None
        assert found.result["text"] == ANSWER["text"]
        transcript = (await artifacts.get(stage.engine, job, "transcript.md")).decode()
        assert ANSWER["text"] in transcript

    on_stage(journal_url, story, batch_seconds=LATER)


def test_other_jobs_do_not_go_by_batch(journal_url: str) -> None:
    async def story(stage: Stage) -> None:
        soon = {"deadline": datetime.now(UTC) + timedelta(hours=23)}
        all_changes: list[dict[str, Any]] = [
            {"tools": []},
            {"tools": [], **soon},
            relaxed() | {"tools": ["bash"]},
        ]
        for changes in all_changes:
            assert (await stage.play(ANSWER, **changes)).state == "succeeded"
        assert (stage.asked, len(await made(stage))) == (3, 0)

    on_stage(journal_url, story)


@pytest.mark.parametrize("step", ["ask-1", "reply-1"])
def test_a_worker_killed_while_it_hands_a_turn_in_does_not_have_it_answered_twice(
    journal_url: str, step: str
) -> None:
    async def story(stage: Stage) -> None:
        job = await stage.submit(ANSWER, **relaxed())
        other = await stage.submit(ANSWER, **relaxed())
        with working(journal_url, stage.server.url, job, kill_at=step) as process:
            await asyncio.to_thread(process.join, 60)
            assert process.exitcode == -signal.SIGKILL
        assert (await stage.work(other)).state == "waiting"
        assert await until_over(stage, job) == "succeeded"
        assert await until_over(stage, other) == "succeeded"
        assert len(await made(stage)) == 2
        assert stage.server.state.counters.billed_turns == 2
        for found in [await stage.job(job), await stage.job(other)]:
            assert found.money.cost_usd > 0
            assert found.money.unknown_usd == found.money.reserved_usd == 0

    on_stage(journal_url, story, batch_seconds=LATER)


def test_a_batch_that_was_canceled_at_the_provider_fails_its_job_at_no_cost(
    journal_url: str,
) -> None:
    async def story(stage: Stage) -> None:
        job = await stage.submit(ANSWER, **relaxed())
        outcome = await stage.work(job)
        batch = str(outcome.reason).split()[1]
        await Batches(stage.services.model.client).cancel(batch)
        outcome = await stage.work(job)
        assert outcome.state == "failed"
        assert "the batch was canceled at the provider" in str(outcome.reason)
        found = await stage.job(job)
        assert found.money.cost_usd == found.money.unknown_usd == 0

    on_stage(journal_url, story, batch_seconds=60)


def test_a_request_that_is_wrong_fails_a_job_also_by_batch(journal_url: str) -> None:
    async def story(stage: Stage) -> None:
        job = await stage.submit({"text": "x", "stop": "nonsense"}, **relaxed())
        assert await until_over(stage, job) == "failed"
        found = await stage.job(job)
        assert str(found.reason).startswith("the model's API refused: the script in the prompt")
        assert found.money.cost_usd == found.money.unknown_usd == 0

    on_stage(journal_url, story)


def test_a_provider_that_cannot_take_a_batch_is_asked_again_once_it_can(journal_url: str) -> None:
    async def story(stage: Stage) -> None:
        faults = stage.server.state.faults
        for status in (529, 500):
            faults.add(Fault(kind="status", status=status, on="batches"))
        job = await stage.submit(ANSWER, **relaxed())
        assert await until_over(stage, job) == "succeeded"
        assert len(await made(stage)) == 1
        found = await stage.job(job)
        assert found.money.unknown_usd == found.money.reserved_usd == 0

    on_stage(journal_url, story)


def test_a_job_that_ends_otherwise_has_its_batch_canceled(journal_url: str) -> None:
    async def story(stage: Stage) -> None:
        job = await stage.submit(ANSWER, **relaxed())
        assert (await stage.work(job)).state == "waiting"
        late = "UPDATE flowforge.attempts SET started_at = started_at - interval '26 h'"
        await run(stage.engine, sa.text(f"{late} WHERE job = :job"), {"job": job})
        assert (await stage.work(job)).state == "timed_out"
        (batch,) = await made(stage)
        assert batch.cancel_initiated_at is not None
        assert stage.server.state.counters.billed_turns == 0

    on_stage(journal_url, story, batch_seconds=60)


def test_an_account_that_is_not_accepted_is_left_alone_also_by_batch(journal_url: str) -> None:
    async def story(stage: Stage) -> None:
        stage.server.state.faults.add(Fault(kind="status", status=401, on="batches"))
        job = await stage.submit(ANSWER, **relaxed())
        for _ in range(2):
            outcome = await stage.work(job)
            assert outcome.state == "waiting"
            assert str(outcome.reason).startswith("account ")
        assert stage.server.state.counters.requests["batches"] == 1
        found = await stage.job(job)
        assert found.money.unknown_usd == found.money.reserved_usd == 0
        await breakers.close_breaker(stage.engine, stage.services.model.account.name)
        assert await until_over(stage, job) == "succeeded"

    on_stage(journal_url, story)
