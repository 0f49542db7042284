from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from flowforge.errors import Refused
from flowforge.ledger.journal import artifacts, events, jobs, leases, money, orphans, turns
from flowforge.rules.jobs.spec import FileSet, JobSpec
from tests.ledger.journal.steps import a_job, a_lease, a_spec, a_turn, end, on


def test_a_job_is_read_as_it_was_asked_for(url: str) -> None:
    files = FileSet(files={"a\u202e.txt": "NUL \0 and \U0001f600\r\n"}, binary={"b": b"AP8="})
    spec = a_spec(workspace=files.model_dump(), labels={"team": "bil\0ling"}, priority=3)

    async def story(engine: AsyncEngine) -> None:
        job = await jobs.get(engine, await a_job(engine, **spec.model_dump(mode="json")))
        assert job.spec == spec
        assert isinstance(job.spec.workspace, FileSet)
        assert job.spec.workspace.binary["b"] == b"\0\xff"
        assert (job.state, job.priority, job.model) == ("queued", 3, "claude-opus-5-5")
        assert job.labels == {"team": "bil\ufffdling"}
        assert job.money.cost_usd == 0

    on(url, story)


def test_the_same_key_and_spec_are_one_job_under_a_race(url: str) -> None:
    async def story(engine: AsyncEngine) -> None:
        asked = [jobs.submit(engine, a_spec(), key="once") for _ in range(12)]
        answers = await asyncio.gather(*asked)
        assert len({job for job, _ in answers}) == 1
        assert sum(new for _, new in answers) == 1
        other, new = await jobs.submit(engine, a_spec(tenant="other"), key="once")
        assert new and other != answers[0][0]

    on(url, story)


def test_the_same_key_for_another_spec_is_refused_and_names_the_job(url: str) -> None:
    async def story(engine: AsyncEngine) -> None:
        job, _ = await jobs.submit(engine, a_spec(), key="once")
        with pytest.raises(Refused, match="asks for something else") as caught:
            await jobs.submit(engine, a_spec(prompt="Do something else."), key="once")
        assert caught.value.facts["job"] == job

    on(url, story)


def test_jobs_are_listed_by_page_newest_first(url: str) -> None:
    async def story(engine: AsyncEngine) -> None:
        made = [await a_job(engine, labels={"n": str(n % 2)}) for n in range(4)]
        made.append(await a_job(engine, tenant="other"))
        await jobs.request_cancel(engine, made[3], "ann")
        newest = sorted(made, reverse=True)
        assert [job.id for job in await jobs.list_jobs(engine)] == newest
        page = await jobs.list_jobs(engine, before=newest[0], limit=2)
        assert [job.id for job in page] == newest[1:3]
        assert [job.id for job in await jobs.list_jobs(engine, tenant="other")] == [made[4]]
        odd = await jobs.list_jobs(engine, labels={"n": "1"}, in_states=["queued"])
        assert [job.id for job in odd] == [made[1]]

    on(url, story)


def test_a_job_without_a_worker_is_cancelled_at_once(url: str) -> None:
    async def story(engine: AsyncEngine) -> None:
        job = await a_job(engine, callback="https://example.org/told")
        for _ in range(2):
            await jobs.request_cancel(engine, job, "ann")
        found = await jobs.get(engine, job)
        assert (found.state, found.reason, found.callback) == (
            "cancelled",
            "cancelled by ann",
            "due",
        )
        assert found.ended_at is not None

    on(url, story)


def test_a_running_job_is_only_asked_to_end(url: str) -> None:
    async def story(engine: AsyncEngine) -> None:
        lease = await a_lease(engine)
        await jobs.request_cancel(engine, lease.job, "ann")
        found = await jobs.get(engine, lease.job)
        assert (found.state, found.cancel_requested_by) == ("running", "ann")
        await end(engine, lease)
        with pytest.raises(Refused, match="ended already: succeeded"):
            await jobs.request_cancel(engine, lease.job, "bob")

    on(url, story)


def test_a_job_that_waits_in_vain_is_given_up_and_one_that_runs_is_not(url: str) -> None:
    async def story(engine: AsyncEngine) -> None:
        lease, waiting = await a_lease(engine), await a_job(engine)
        assert not await jobs.give_up(engine, lease.job, "timed_out", "its deadline passed")
        assert not await jobs.give_up(engine, waiting, "succeeded", "not like this")
        assert await jobs.give_up(engine, waiting, "timed_out", "its deadline passed")
        found = await jobs.look(engine, waiting)
        assert (found.state, found.reason) == ("timed_out", "its deadline passed")
        with pytest.raises(Refused, match="There is no job"):
            await jobs.look(engine, "job_\0")

    on(url, story)


def test_a_deleted_job_leaves_nothing_but_what_it_spent(url: str) -> None:
    async def story(engine: AsyncEngine) -> None:
        lease, other = await a_lease(engine), await a_lease(engine)
        for each in (lease, other):
            await artifacts.put(engine, each, "patch", "text/x-diff", b"the same")
        await artifacts.put(engine, lease, "notes", "text/plain", b"its own")
        await a_turn(engine, lease, 1)
        await events.append(engine, lease, [("turn", {})])
        with pytest.raises(Refused, match="Cancel it first"):
            await jobs.delete(engine, lease.job)
        await end(engine, lease)
        await jobs.delete(engine, lease.job)
        with pytest.raises(Refused, match="There is no job"):
            await jobs.get(engine, lease.job)
        assert await turns.read(engine, lease.job) == []
        assert await events.read(engine, lease.job) == []
        assert await money.list_calls(engine, lease.job) == []
        assert await artifacts.get(engine, other.job, "patch") == b"the same"
        assert {row.spent_usd for row in await money.list_spending(engine)} == {Decimal("0.01")}

    on(url, story)


def test_a_fork_knows_where_it_came_from(url: str) -> None:
    async def story(engine: AsyncEngine) -> None:
        source = await a_job(engine)
        job, _ = await jobs.submit(engine, a_spec(), forked=(source, 7))
        found = await jobs.get(engine, job)
        assert (found.forked_from, found.forked_turn) == (source, 7)

    on(url, story)


def test_equal_specs_have_one_hash_however_they_were_spelled() -> None:
    one = JobSpec(prompt="x", labels={"a": "1", "b": "2"})
    two = JobSpec(prompt="x", labels={"b": "2", "a": "1"}, priority=0)
    assert jobs.hash_spec(one) == jobs.hash_spec(two)
    assert jobs.hash_spec(one) != jobs.hash_spec(JobSpec(prompt="y"))


def test_what_is_due_goes_by_priority_and_then_by_age(url: str) -> None:
    async def story(engine: AsyncEngine) -> None:
        old, urgent = await a_job(engine), await a_job(engine, priority=5)
        lease = await a_lease(engine, priority=9)
        later = datetime.now(UTC) + timedelta(hours=1)
        await leases.release(engine, lease, "waiting", "rate", not_before=later)
        assert [one.job for one in await orphans.list_due(engine)] == [urgent, old]

    on(url, story)
