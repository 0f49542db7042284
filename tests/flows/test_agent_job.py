"""An agent job as a flow: from a spec to a patch, and what the run shows when it goes otherwise."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State, StateType
from prefect.utilities.asyncutils import run_coro_as_sync
from sqlalchemy.ext.asyncio import AsyncEngine

from flowforge import ledger
from flowforge.engines.sandboxes.local import LocalProvider
from flowforge.ledger import queries
from flowforge.ledger.journal import artifacts, connection, jobs
from flowforge.rules.jobs.records import Job
from flowforge.rules.jobs.spec import FileSet, GitSource, JobSpec, Limits
from flows.agent_job import run_agent_job
from tasks import progress
from tests.ledger.journal.steps import on
from tests.rehearsal import rehearsing, scripted

# Prefect 3.8 leaves the client of an async flow's events to the garbage collector.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning"
)
EDITS = {"text": "I change it.", "tools": [{"bash": "echo bye > a.txt"}]}
DONE = {"text": "All done."}


@pytest.fixture
def model(prefect_server: None, ledger_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A rehearsal model that this process's environment points to, and a machine for sandboxes."""
    if why := LocalProvider().why_not():
        pytest.skip(f"{why.message} {why.hint}")
    with rehearsing() as server:
        monkeypatch.setenv("ANTHROPIC_API_KEY", "a-key-for-tests")
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
        yield ledger_url


def run(**parameters: Any) -> State[Any]:
    # On the loop that Prefect keeps, so that its connections outlive a run.
    running: Any = run_agent_job(**parameters, return_state=True)
    state: State[Any] = run_coro_as_sync(running)
    return state


def spec(*turns: object, **more: Any) -> JobSpec:
    return JobSpec(prompt=scripted(*turns), workspace=FileSet(files={"a.txt": "hello\n"}), **more)


def last_job(url: str) -> tuple[Job, bytes]:
    async def look() -> tuple[Job, bytes]:
        engine = connection.open_engine(url)
        try:
            newest = (await jobs.list_jobs(engine, limit=1))[0].id
            return await jobs.get(engine, newest), await artifacts.get(engine, newest, "patch")
        finally:
            await engine.dispose()

    return asyncio.run(look())


def entered(url: str, wanted: JobSpec) -> str:
    """A job that is in the journal, and that nobody looked at before."""

    async def enter() -> str:
        engine = connection.open_engine(url)
        try:
            return (await jobs.submit(engine, wanted))[0]
        finally:
            await engine.dispose()

    return asyncio.run(enter())


def test_a_job_ends_in_a_patch_a_page_and_a_row_of_the_ledger(model: str) -> None:
    state = run(spec=spec(EDITS, DONE))

    assert state.is_completed(), state.message
    job, patch = last_job(model)
    assert job.state == "succeeded"
    assert b"-hello\n+bye\n" in patch
    recorded = queries.list_operations(ledger.connect(model, pooled=False), "job", 1)[0]
    assert recorded.outcome == "done"
    assert recorded.evidence.startswith("patch of 1 file applies (tree ")
    assert recorded.facts["job"] == job.id
    with get_client(sync_client=True) as client:
        key = f"job-{job.id.removeprefix('job_')[:20]}"
        page = client.request("GET", "/artifacts/{key}/latest", path_params={"key": key}).json()
    assert f"flowforge job patch {job.id} | git apply" in page["data"]


def test_a_job_that_meets_its_limit_is_no_completed_run(model: str) -> None:
    state = run(spec=spec(EDITS, EDITS, DONE, limits=Limits(turns=1)))

    assert (state.type, state.name) == (StateType.FAILED, "Out of turns")
    job, patch = last_job(model)
    assert job.state == "max_turns"
    assert b"+bye" in patch  # what was done until then is kept


def test_a_job_shows_how_much_of_its_limits_it_has_used(
    model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "JOB_EVERY_SECONDS", 0.0)
    state = run(spec=spec(EDITS, DONE, limits=Limits(turns=4, usd=0.5)))
    assert state.is_completed(), state.message
    run_id = str(state.state_details.flow_run_id)
    with get_client(sync_client=True) as client:
        asked = {"artifacts": {"flow_run_id": {"any_": [run_id]}, "type": {"any_": ["progress"]}}}
        (shown,) = client.request("POST", "/artifacts/filter", json=asked).json()
    assert shown["data"] == 100
    assert shown["description"] == state.message


def test_what_is_shown_of_a_job_never_ends_it(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "JOB_EVERY_SECONDS", 0.0)
    monkeypatch.setattr(progress, "_MOST_SECONDS", 0.0)
    assert run(spec=spec(EDITS, DONE)).is_completed()


@pytest.mark.slow
def test_a_job_whose_access_is_gone_fails_with_the_way_to_save_it(model: str) -> None:
    source = GitSource(url="https://example.com/x.git", secret="gone")
    state = run(spec=JobSpec(prompt="Do it.", workspace=source))
    assert "No repo is registered as 'gone'" in str(state.message)  # nothing was written

    async def submit(engine: AsyncEngine) -> str:
        return (await jobs.submit(engine, JobSpec(prompt="Do it.", workspace=source)))[0]

    job = on(model, submit)
    assert run(job=job).is_failed()
    found = on(model, lambda engine: jobs.get(engine, job))
    assert (found.state, found.turns) == ("failed", 0)
    assert "`flowforge repo add gone`" in str(found.reason)


@pytest.mark.slow
def test_a_job_that_has_ended_is_not_run_again(model: str) -> None:
    run(spec=spec(DONE))
    job, _ = last_job(model)

    again = run(job=job.id)

    assert again.is_failed()
    assert f"{job.id} has ended" in str(again.message)


@pytest.mark.parametrize("parameters", [{}, {"job": "job_1", "spec": JobSpec(prompt="Hello.")}])
def test_a_run_needs_a_spec_or_a_job_and_not_both(
    prefect_server: None, parameters: dict[str, Any]
) -> None:
    assert "either a spec or the id of a job" in str(run(**parameters).message)


def test_a_model_the_provider_does_not_know_is_refused_before_anything_is_written(
    model: str,
) -> None:
    state = run(spec=spec(DONE, model="claude-unheard-of"))

    assert state.is_failed()
    assert "No price is known for claude-unheard-of" in str(state.message)
