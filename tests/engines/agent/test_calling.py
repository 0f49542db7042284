from __future__ import annotations

import asyncio
import time
from collections import Counter
from decimal import Decimal

import pytest

from flowforge.ledger.journal import breakers, leases, money, prices
from flowforge.rules.jobs import retries
from flowforge.rules.jobs.spec import DEFAULT_MODEL
from flowforge.twin.model.faults import Fault
from flowforge.twin.model.limits import Limits
from tests.engines.agent.stage import Stage, on_stage

DONE = {"text": "Done."}
OUTCOMES = {  # what a call that failed in such a way is written down as
    "close": "lost",
    "reset": "lost",
    "end": "lost",
    "error": "lost",
    "hang": "lost",
    "silence": "failed",
}


@pytest.mark.parametrize("kind", OUTCOMES)
def test_a_reply_that_breaks_off_is_asked_for_again_and_its_loss_is_written_down(
    journal_url: str, kind: str
) -> None:
    async def story(stage: Stage) -> None:
        fault = Fault(kind=kind, status=529, after_events=6, turn=1)
        stage.server.state.faults.add(fault)
        job = await stage.submit(
            {"tools": [{"bash": "echo x >> marks; wc -l < marks"}]},
            {"text": "Long enough to be cut."},
            limits={"idle_seconds": 0.5},
        )
        outcome = await stage.work(job)
        assert (outcome.state, stage.asked) == ("succeeded", 3)
        assert await stage.results(job) == ["1"]
        calls = await stage.calls(job)
        assert [(c.turn, c.outcome) for c in calls] == [
            (1, "paid"),
            (2, OUTCOMES[kind]),
            (2, "paid"),
        ]
        found = await stage.job(job)
        lost = sum((call.unknown_usd for call in calls), Decimal(0))
        assert (lost > 0) == (OUTCOMES[kind] == "lost")
        assert found.money.unknown_usd == lost
        assert found.money.cost_usd == sum(call.usd for call in calls)
        (retry,) = await stage.events(job, "retry")
        assert retry.data["n"] == 2

    on_stage(journal_url, story)


def test_text_of_a_call_that_was_lost_is_told_apart_from_the_next_one(journal_url: str) -> None:
    async def story(stage: Stage) -> None:
        stage.server.state.faults.add(Fault(kind="close", after_events=6))
        job = await stage.submit({"text": "A sentence of some length, and another."})
        assert (await stage.work(job)).state == "succeeded"
        said: dict[int, str] = {}
        for event in await stage.events(job, "text"):
            said[event.data["call"]] = said.get(event.data["call"], "") + event.data["delta"]
        assert said[2] == "A sentence of some length, and another."
        assert said[2].startswith(said[1]) and said[1] != said[2]

    on_stage(journal_url, story)


@pytest.mark.parametrize("status", [408, 503, 529])
def test_a_provider_that_has_too_much_to_do_is_asked_again(journal_url: str, status: int) -> None:
    async def story(stage: Stage) -> None:
        stage.server.state.faults.add(Fault(kind="status", status=status, count=2))
        job = await stage.submit(DONE)
        assert (await stage.work(job)).state == "succeeded"
        assert [c.outcome for c in await stage.calls(job)] == ["failed", "failed", "paid"]
        assert (await stage.job(job)).money.unknown_usd == 0

    on_stage(journal_url, story)


def test_who_is_asked_to_wait_waits_as_long(journal_url: str) -> None:
    async def story(stage: Stage) -> None:
        headers = {"retry-after-ms": "300"}
        stage.server.state.faults.add(Fault(kind="status", status=429, headers=headers))
        began = time.monotonic()
        assert (await stage.play(DONE)).state == "succeeded"
        assert time.monotonic() - began > 0.3

    on_stage(journal_url, story)


def test_who_would_wait_long_gives_the_place_back_and_believes_no_day(journal_url: str) -> None:
    async def story(stage: Stage) -> None:
        headers = {"retry-after": "86400"}
        stage.server.state.faults.add(Fault(kind="status", status=429, headers=headers))
        job = await stage.submit(DONE)
        outcome = await stage.work(job)
        assert (outcome.state, stage.asked) == ("waiting", 1)
        assert str(outcome.reason).startswith("rate: ")
        found = await stage.job(job)
        assert found.not_before is not None
        wait = (found.not_before - found.created_at).total_seconds()
        assert retries.LONGEST_WAIT_SECONDS < wait < 1.3 * retries.LONGEST_AFTER_SECONDS
        assert found.money == found.money.model_copy(update={"reserved_usd": Decimal(0)})
        assert found.money.unknown_usd == 0

    on_stage(journal_url, story)


@pytest.mark.parametrize(
    ("status", "code", "message"),
    [
        (401, None, "invalid x-api-key"),
        (402, None, "Your account has no credit."),
        (400, None, "You have reached your specified API usage limits."),
        (429, "enforced_spend_limit_reached", "No."),
    ],
)
def test_an_account_that_is_not_accepted_is_left_alone_and_its_jobs_wait(
    journal_url: str, status: int, code: str | None, message: str
) -> None:
    async def story(stage: Stage) -> None:
        fault = Fault(kind="status", status=status, error_code=code, message=message)
        stage.server.state.faults.add(fault)
        account = stage.services.model.account.name
        job = await stage.submit(DONE)
        outcome = await stage.work(job)
        assert (outcome.state, stage.asked) == ("waiting", 1)
        assert str(outcome.reason).startswith(f"account {account}: ")
        assert await breakers.why_open(stage.engine, account)
        assert (await stage.events(job, "state"))[-1].data["reason"] == outcome.reason

        other = await stage.submit(DONE)
        assert (await stage.work(other)).state == "waiting"
        assert stage.asked == 1  # nobody asks again
        for found in [await stage.job(job), await stage.job(other)]:
            assert found.state == "waiting"
            assert found.money.unknown_usd == found.money.reserved_usd == 0

        await breakers.close_breaker(stage.engine, account)
        assert (await stage.work(job)).state == "succeeded"
        assert (await stage.work(other)).state == "succeeded"

    on_stage(journal_url, story)


def test_a_request_that_is_wrong_is_not_made_again(journal_url: str) -> None:
    async def story(stage: Stage) -> None:
        stage.server.state.faults.add(Fault(kind="status", status=404, message="no such model"))
        outcome = await stage.play(DONE)
        assert (outcome.state, stage.asked) == ("failed", 1)
        assert outcome.reason == "the model's API refused: HTTP 404: no such model"

    on_stage(journal_url, story)


def test_a_provider_that_does_not_count_is_asked_again_before_anything_is_paid(
    journal_url: str,
) -> None:
    async def story(stage: Stage) -> None:
        stage.server.state.faults.add(Fault(kind="status", status=500, on="count_tokens"))
        job = await stage.submit(DONE)
        assert (await stage.work(job)).state == "succeeded"
        assert len(await stage.calls(job)) == 1

    on_stage(journal_url, story)


def test_a_day_without_money_left_lets_jobs_wait(journal_url: str) -> None:
    async def story(stage: Stage) -> None:
        await money.set_limit(stage.engine, Decimal("0.001"), "test", tenant=stage.tenant)
        job = await stage.submit(DONE)
        outcome = await stage.work(job)
        assert (outcome.state, stage.asked) == ("waiting", 0)
        assert str(outcome.reason).startswith(f"budget: the day of {stage.tenant} has $0.0010 left")
        await money.set_limit(stage.engine, None, "test", tenant=stage.tenant)
        assert (await stage.work(job)).state == "succeeded"

    on_stage(journal_url, story)


def test_forty_jobs_that_race_for_one_day_s_money_spend_no_more_than_it(journal_url: str) -> None:
    async def story(stage: Stage) -> None:
        limit = Decimal("0.8")
        await money.set_limit(stage.engine, limit, "test", tenant=stage.tenant)
        used = {"usage": {"output_tokens": 1000}}
        script = [{"text": "a", "stop": "pause_turn"} | used, {"text": "b"} | used]
        jobs = [await stage.submit(*script, max_tokens=1000, tools=[]) for _ in range(40)]
        outcomes = await asyncio.gather(*(stage.work(job) for job in jobs))
        states = Counter(outcome.state for outcome in outcomes)
        assert set(states) == {"succeeded", "waiting"}
        assert min(states.values()) > 1
        mine = f"tenant:{stage.tenant}"
        (day,) = [d for d in await money.list_spending(stage.engine) if d.scope == mine]
        assert day.spent_usd <= limit
        assert day.reserved_usd == day.unknown_usd == 0
        found = [await stage.job(job) for job in jobs]
        assert sum(job.money.cost_usd for job in found) == day.spent_usd
        price = await prices.price(stage.engine, DEFAULT_MODEL, day.day)
        billed = stage.server.state.counters.tokens["output_tokens"] * price.band(0).output_usd
        assert billed / 1_000_000 <= day.spent_usd

    on_stage(journal_url, story, connections=10)


@pytest.mark.parametrize(
    ("jobs", "turns"),
    [(10, 3), pytest.param(30, 20, marks=pytest.mark.slow)],
)
def test_workers_together_keep_to_a_limit_that_the_provider_enforces(
    journal_url: str, jobs: int, turns: int
) -> None:
    async def story(stage: Stage) -> None:
        stage.server.state.limits.set(Limits(requests=1200, burst=20 / 1200))
        assert (await stage.play(DONE, tools=[])).state == "succeeded"  # the limit is known now
        before = stage.asked
        pause = {"text": "On.", "stop": "pause_turn", "repeat": turns - 1}
        names = [await stage.submit(pause, DONE, tools=[], limits={"usd": 9}) for _ in range(jobs)]
        began = time.monotonic()
        outcomes = await asyncio.gather(*(stage.work(name) for name in names))
        seconds = time.monotonic() - began
        assert [outcome.state for outcome in outcomes] == ["succeeded"] * jobs
        refused = stage.server.state.counters.statuses["429"]
        calls = stage.asked - before
        assert refused < max(1, 0.01 * calls)
        assert calls == jobs * turns + refused
        assert seconds < 2 * jobs * turns / 20 + 10

    on_stage(journal_url, story, connections=10)


def test_a_key_that_the_provider_repeats_is_nowhere_in_what_people_read(journal_url: str) -> None:
    async def story(stage: Stage) -> None:
        message = "No such key: sk-of-the-stage"
        stage.server.state.faults.add(Fault(kind="status", status=401, message=message))
        job = await stage.submit(DONE)
        outcome = await stage.work(job)
        assert str(outcome.reason).startswith("account ")
        (breaker,) = [
            one
            for one in await breakers.list_breakers(stage.engine)
            if one.account == stage.services.model.account.name
        ]
        told = [event.data for event in await stage.events(job)]
        found = [await stage.job(job), breaker, told, await leases.list_attempts(stage.engine, job)]
        assert "sk-of-the-stage" not in repr(found)

    on_stage(journal_url, story, secrets={"account": "sk-of-the-stage"})
