from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from flowforge.engines.agent import stewarding
from flowforge.engines.agent.stewarding import How, Run, Steward
from flowforge.ledger.journal import approvals, events, jobs, leases, sweeping
from flowforge.ledger.journal.connection import run
from flowforge.ledger.journal.presence import presence
from flowforge.rules.jobs import queues
from tests.ledger.conftest import postgres
from tests.ledger.journal.conftest import journal_url, url
from tests.ledger.journal.steps import a_job, a_lease, a_spec, a_turn, end, on

__all__ = ["journal_url", "postgres", "url"]


class Kept:
    """Flow runs that are only kept in mind."""

    def __init__(self) -> None:
        self.runs: dict[str, Run] = {}
        self.started: list[tuple[str, str, str]] = []
        self.ended: list[tuple[str, How]] = []

    async def start(self, job: str, key: str, queue: str) -> Run:
        if key not in self.runs:
            self.runs[key] = Run(key, is_over=False)
            self.started.append((job, key, queue))
        return self.runs[key]

    async def look(self, ids: Iterable[str]) -> Mapping[str, Run]:
        return {one: self.runs[one] for one in ids if one in self.runs}

    async def end(self, run_id: str, how: How, why: str) -> None:
        assert why
        self.ended.append((run_id, how))
        self.runs[run_id] = Run(run_id, is_over=how != "cancelling")


@pytest.fixture(autouse=True)
def looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stewarding, "LOOK_SECONDS", 0.0)


async def kinds_of(engine: AsyncEngine, job: str) -> list[str]:
    return [event.kind for event in await events.read(engine, job)]


async def age(engine: AsyncEngine, statement: str) -> None:
    await run(engine, sa.text(f"UPDATE flowforge.{statement}"))


def test_a_run_is_started_once_for_each_job_that_is_due_by_priority(url: str) -> None:
    async def story(engine: AsyncEngine) -> None:
        one, urgent, low = [await a_job(engine, priority=p) for p in (0, 9, -1)]
        kept = Kept()
        steward = Steward(engine, kept)
        for _ in range(3):
            await steward.tick()
        again = Steward(engine, kept)  # a server that started anew finds the same runs
        await again.tick()
        assert kept.started == [
            (urgent, f"{urgent}:0", queues.URGENT),
            (one, f"{one}:0", queues.DEFAULT),
            (low, f"{low}:0", queues.LOW),
        ]

    on(url, story)


def test_another_run_follows_one_that_ended_without_taking_the_job(url: str) -> None:
    async def story(engine: AsyncEngine) -> None:
        job = await a_job(engine)
        kept = Kept()
        await Steward(engine, kept).tick()
        await kept.end(f"{job}:0", "crashed", "killed at its start")
        steward = Steward(engine, kept)
        for _ in range(3):
            await steward.tick()
        assert [key for _, key, _ in kept.started] == [f"{job}:0", f"{job}:0:1"]

    on(url, story)


def test_a_job_is_left_to_the_run_that_submitted_it(url: str) -> None:
    async def story(engine: AsyncEngine) -> None:
        kept = Kept()
        kept.runs["r-1"] = Run("r-1", is_over=False)
        job, _ = await jobs.submit(engine, a_spec(), key="run:r-1")
        steward = Steward(engine, kept)
        await steward.tick()
        assert kept.started == []
        await kept.end("r-1", "crashed", "killed before it claimed")
        await steward.tick()
        await steward.tick()
        assert [key for _, key, _ in kept.started] == [f"{job}:0"]

    on(url, story)


def test_a_job_that_was_answered_goes_on_in_another_run_than_the_one_that_waits(url: str) -> None:
    async def story(engine: AsyncEngine) -> None:
        kept = Kept()
        lease = await a_lease(engine)
        await leases.note(engine, lease, flow_run_id="asks")
        kept.runs["asks"] = Run("asks", is_over=False, is_paused=True)
        await approvals.ask(engine, lease, 1, "toolu_1", command="ls", seconds=3600)
        later = datetime.now(UTC) + timedelta(hours=1)
        await leases.release(engine, lease, "waiting", "approval", not_before=later)
        steward = Steward(engine, kept)
        await age(engine, "attempts SET ended_at = now() - interval '1 minute'")
        await steward.tick()
        await steward.tidy()
        assert (kept.started, kept.ended) == ([], [])
        await approvals.answer(engine, lease.job, 1, "toolu_1", granted=True, by="ann")
        await steward.tick()
        assert kept.ended == [("asks", "cancelled")]
        assert [key for _, key, _ in kept.started] == [f"{lease.job}:{lease.fence}"]

    on(url, story)


def test_an_orphan_is_queued_again_and_its_run_is_told_to_be_dead(url: str) -> None:
    async def story(engine: AsyncEngine) -> None:
        kept = Kept()
        lease = await a_lease(engine)  # without a lock
        await leases.note(engine, lease, flow_run_id="dead")
        kept.runs["dead"] = Run("dead", is_over=False)
        await Steward(engine, kept, grace=0).tick()
        assert kept.ended == [("dead", "crashed")]
        assert kept.started == [(lease.job, f"{lease.job}:{lease.fence + 1}", queues.DEFAULT)]
        assert await kinds_of(engine, lease.job) == ["note", "state"]

    on(url, story)


def test_a_worker_that_lives_is_left_alone(url: str) -> None:
    async def story(engine: AsyncEngine) -> None:
        kept = Kept()
        async with presence(engine) as here:
            await here.claim(await a_job(engine), "alive")
            steward = Steward(engine, kept, grace=0)
            await steward.tick()
            await steward.tidy()
        assert (kept.started, kept.ended) == ([], [])

    on(url, story)


def test_an_attempt_that_does_not_hear_a_cancellation_loses_its_run_and_then_its_job(
    url: str,
) -> None:
    async def story(engine: AsyncEngine) -> None:
        kept = Kept()
        job = await a_job(engine)
        async with presence(engine) as here:
            lease = await here.claim(job, "deaf")
            await leases.note(engine, lease, flow_run_id="deaf")
            kept.runs["deaf"] = Run("deaf", is_over=False)
            await jobs.request_cancel(engine, job, "ann")
            steward = Steward(engine, kept, grace=0)
            await steward.tick()
            assert kept.ended == []
            await age(engine, "jobs SET cancel_requested_at = now() - interval '11 seconds'")
            await steward.tick()
            await steward.tick()
            assert kept.ended == [("deaf", "cancelling")]
        await steward.tick()
        assert (await jobs.look(engine, job)).state == "cancelled"
        assert (await jobs.look(engine, job)).reason == "cancelled by ann"
        assert kept.started == []
        assert (await kinds_of(engine, job))[-1] == "ended"

    on(url, story)


def test_an_answer_that_came_before_the_job_waited_is_not_missed(url: str) -> None:
    async def story(engine: AsyncEngine) -> None:
        kept, lease = Kept(), await a_lease(engine)
        for call in ("toolu_1", "toolu_2"):
            await approvals.ask(engine, lease, 1, call, command="ls", seconds=3600)
        await approvals.answer(engine, lease.job, 1, "toolu_1", granted=True, by="ann")
        later = datetime.now(UTC) + timedelta(hours=1)
        await leases.release(engine, lease, "waiting", "approval: ls", not_before=later)
        await Steward(engine, kept).tick()
        assert kept.started == []
        statement = "approvals SET state = 'granted' WHERE tool_use_id = 'toolu_2'"
        await age(engine, statement)
        await Steward(engine, kept).tick()
        assert [job for job, _, _ in kept.started] == [lease.job]

    on(url, story)


def test_a_job_that_waits_beyond_its_deadline_has_timed_out_and_no_other(url: str) -> None:
    async def story(engine: AsyncEngine) -> None:
        job, other = await a_job(engine), await a_job(engine)
        await age(engine, f"jobs SET deadline = now() WHERE id = '{job}'")
        await age(engine, f"jobs SET started_at = now() - interval '9 h' WHERE id = '{other}'")
        await Steward(engine, Kept()).tick()
        found = await jobs.look(engine, job)
        assert found.state == "timed_out"
        assert found.reason is not None
        assert "queued" in found.reason
        assert (await jobs.look(engine, other)).state == "queued"

    on(url, story)


def test_a_job_that_did_something_gets_a_last_attempt_that_keeps_its_patch(url: str) -> None:
    async def story(engine: AsyncEngine) -> None:
        kept = Kept()
        lease = await a_lease(engine)
        await a_turn(engine, lease, 1)
        later = datetime.now(UTC) + timedelta(hours=9)
        await leases.release(engine, lease, "waiting", "rate", not_before=later)
        await age(engine, "jobs SET deadline = now()")
        steward = Steward(engine, kept)
        await steward.tick()
        assert [job for job, _, _ in kept.started] == [lease.job]
        assert (await jobs.look(engine, lease.job)).state == "waiting"
        await age(engine, "jobs SET deadline = now() - interval '6 minutes'")
        await steward.tick()
        assert (await jobs.look(engine, lease.job)).state == "timed_out"

    on(url, story)


def test_the_run_of_an_attempt_that_is_over_is_ended_after_a_while(url: str) -> None:
    async def story(engine: AsyncEngine) -> None:
        kept = Kept()
        lease = await a_lease(engine)
        await leases.note(engine, lease, flow_run_id="hangs")
        kept.runs["hangs"] = Run("hangs", is_over=False)
        await end(engine, lease)
        steward = Steward(engine, kept)
        await steward.tidy()
        assert kept.ended == []
        await age(engine, "attempts SET ended_at = now() - interval '31 seconds'")
        await steward.tidy()
        await steward.tidy()
        assert kept.ended == [("hangs", "crashed")]

    on(url, story)


class Places:
    """A provider of sandboxes that are only names."""

    kind = "names"

    def __init__(self, *places: tuple[str, int, str]) -> None:
        self.places = list(places)

    async def list_open(self) -> list[tuple[str, int, str]]:
        return self.places

    async def remove(self, sandbox_id: str) -> None:
        self.places = [one for one in self.places if one[2] != sandbox_id]


def test_only_sandboxes_of_attempts_that_are_over_and_ours_are_removed(url: str) -> None:
    async def story(engine: AsyncEngine) -> None:
        live, dead = await a_lease(engine), await a_lease(engine)
        await end(engine, dead)
        places = Places(
            (live.job, live.fence, "works"),
            (live.job, live.fence - 1, "before"),
            (dead.job, dead.fence, "after"),
            ("job_of_another_platform", 1, "foreign"),
        )
        suspects = await stewarding.sweep_sandboxes(engine, places, frozenset())  # type: ignore[arg-type]
        assert len(places.places) == 4
        await stewarding.sweep_sandboxes(engine, places, suspects)  # type: ignore[arg-type]
        assert [one[2] for one in places.places] == ["works", "foreign"]
        assert set(await sweeping.how_held(engine, ["job_none"])) == set()

    on(url, story)
