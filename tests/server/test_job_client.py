from __future__ import annotations

import asyncio
import pickle
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from flowforge.client import AsyncFlowForge, FlowForge, NotSucceeded, jobs
from flowforge.errors import Refused, Unavailable
from flowforge.ledger.journal import approvals
from flowforge.rules.jobs.spec import FileSet, JobSpec, Limits
from tests.server.attempts import PATCH, attempt, hold, on, work
from tests.server.cutter import cutting
from tests.server.running import Running
from tests.server.test_jobs import database


@pytest.fixture
def flowforge(server: Running) -> Iterator[FlowForge]:
    with FlowForge(f"{server.api}/api", patience_seconds=10) as client:
        yield client


def test_a_prompt_is_submitted_once_and_its_outcome_is_a_value(
    server: Running, flowforge: FlowForge
) -> None:
    job = flowforge.jobs.submit("Do it.", key="once", labels={"by": "client"})
    again = flowforge.jobs.submit("Do it.", key="once", labels={"by": "client"})
    assert (job.id, job.state) == (again.id, "queued")
    on(database(server), lambda engine: work(engine, job.id))
    outcome = job.result(timeout=10)
    assert outcome
    assert (outcome.state, outcome.text, outcome.rehearsal) == ("succeeded", "It is done.", True)
    assert outcome.patch is not None
    assert outcome.seconds is not None
    assert (outcome.patch.files, outcome.patch.proven) == (("a.txt",), True)
    assert (job.state, job.patch(), job.artifact("output-1-0")) == ("succeeded", PATCH, b"made\n")
    assert job.cost().usd == Decimal("0.024691")
    assert [turn.text for turn in job.transcript()] == ["Step 1.", "Step 2."]
    assert [turn.n for turn in job.transcript(after=1)] == [2]
    assert [one.name for one in job.refresh().artifacts] == ["patch", "output-1-0"]


def test_a_whole_spec_and_its_fields_are_the_same_job(flowforge: FlowForge) -> None:
    files = FileSet(files={"a.txt": "one\n"})
    spec = JobSpec(prompt="Do it.", workspace=files, limits=Limits(usd=1))
    one = flowforge.jobs.submit(spec, key="spec")
    fields = {"prompt": "Do it.", "workspace": {"kind": "files", "files": {"a.txt": "one\n"}}}
    assert flowforge.jobs.submit(fields, key="spec", limits={"usd": 1}).id == one.id
    with pytest.raises(Refused, match="asks for something else"):
        flowforge.jobs.submit("Other.", key="spec")
    with pytest.raises(Refused, match=r"limits\.usd"):
        flowforge.jobs.submit("Do it.", limits={"usd": -1})


def test_an_end_without_success_is_an_error_only_for_who_wants_that(
    server: Running, flowforge: FlowForge
) -> None:
    job = flowforge.jobs.submit("Do it.")
    on(database(server), lambda engine: work(engine, job.id, "max_turns"))
    assert not job.result()
    with pytest.raises(NotSucceeded, match="ended max_turns") as caught:
        job.result(check=True)
    assert pickle.loads(pickle.dumps(caught.value)).outcome.job == job.id


def test_who_waits_too_short_is_told_that_the_job_goes_on(flowforge: FlowForge) -> None:
    job = flowforge.jobs.submit("Do it.")
    with pytest.raises(Unavailable, match="still queued"):
        job.result(timeout=0.2)
    job.cancel(by="ann")
    outcome = job.result(timeout=5)
    assert (outcome.state, outcome.reason) == ("cancelled", "cancelled by ann")
    with pytest.raises(Refused, match="left no patch"):
        job.patch()


def test_events_have_no_gap_and_no_duplicate_however_often_the_connection_is_cut(
    server: Running,
) -> None:
    cuts = [3500, 1, 300, 900, 750, 900]
    with (
        cutting(server.api_port, cuts) as port,
        FlowForge(f"http://127.0.0.1:{port}/api", patience_seconds=10) as cut,
        FlowForge(f"{server.api}/api") as whole,
    ):
        job = whole.jobs.submit("Do it.")
        worked = threading.Thread(target=on, args=(database(server), lambda e: work(e, job.id)))
        worked.start()
        seen = [event.seq for event in cut.jobs.get(job.id).events()]
        worked.join()
        assert seen == list(range(1, 11))
        assert len(cuts) < 3, "it was cut three times at least"
        assert [event.seq for event in job.events(after=7)] == [8, 9, 10]


def test_who_follows_a_job_that_is_deleted_is_told(flowforge: FlowForge) -> None:
    job = flowforge.jobs.submit("Do it.")
    job.cancel()
    job.delete()
    with pytest.raises(Refused, match="There is no job"):
        list(job.events())
    with pytest.raises(Refused, match="There is no job"):
        job.delete()


def test_a_command_is_approved_and_a_turn_is_forked(server: Running, flowforge: FlowForge) -> None:
    job = flowforge.jobs.submit("Do it.")

    async def story(engine: AsyncEngine) -> None:
        async with attempt(engine, job.id) as lease:
            await approvals.ask(engine, lease, 1, "toolu_1", command="git push", seconds=60)

    on(database(server), story)
    assert job.approve(1, "toolu_1", granted=False, by="ann").state == "denied"
    done = flowforge.jobs.submit("Do it.")
    on(database(server), lambda engine: work(engine, done.id))
    fork = done.fork(1, "Do it differently.", key="fork")
    assert (fork.facts.forked_from, fork.facts.forked_turn) == (done.id, 1)
    assert done.fork(1, "Do it differently.", key="fork").id == fork.id


def test_jobs_are_listed_by_what_they_carry(flowforge: FlowForge) -> None:
    mine = flowforge.jobs.submit("Do it.", labels={"list": "client"}, tenant="client")
    found = flowforge.jobs.list(labels={"list": "client"}, states=["queued", "cancelled"])
    assert [one.id for one in found] == [mine.id]
    assert flowforge.jobs.list(tenant="nobody") == []


def test_the_awaiting_client_does_the_same(server: Running) -> None:
    async def story(engine: AsyncEngine) -> None:
        async with AsyncFlowForge(f"{server.api}/api") as client:
            job = await client.jobs.submit("Do it.")
            working = asyncio.create_task(work(engine, job.id))
            seen = [event.seq async for event in job.events()]
            await working
            assert seen == list(range(1, 11))
            assert (await job.result(5)).succeeded
            assert await job.patch() == PATCH
            assert (await job.cost()).usd == Decimal("0.024691")
            assert [turn.n for turn in await job.transcript()] == [1, 2]
            fork = await job.fork(2, "Other.")
            await fork.cancel()
            await fork.delete()
            assert (await client.jobs.get(job.id)).state == "succeeded"
            assert job.id in [one.id for one in await client.jobs.list()]

    on(database(server), story)


def test_the_default_environment_is_asked_without_a_client(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLOWFORGE_API_URL", f"{server.api}/api")
    job = jobs.submit("Do it.", labels={"default": "yes"})
    assert jobs.get(job.id).id == jobs.list(labels={"default": "yes"})[0].id == job.id


def test_an_account_that_is_held_is_listed_and_used_again(
    server: Running, flowforge: FlowForge
) -> None:
    account = "of/the client"
    job = flowforge.jobs.submit("Do it.")
    on(database(server), lambda engine: hold(engine, job.id, account))
    (found,) = [one for one in flowforge.jobs.breakers() if one.account == account]
    assert (found.jobs, found.reason, found.until) == (1, "HTTP 401: no", None)
    closed = flowforge.jobs.close_breaker(account, by="ann")
    assert (closed.was_open, closed.jobs) == (True, 1)

    async def story() -> None:
        async with AsyncFlowForge(f"{server.api}/api") as client:
            assert account not in [one.account for one in await client.jobs.breakers()]
            assert not (await client.jobs.close_breaker(account)).was_open

    asyncio.run(story())
    deadline = time.monotonic() + 60
    while (waiting := job.refresh().not_before) and waiting > datetime.now(UTC):
        assert time.monotonic() < deadline
        time.sleep(0.05)
