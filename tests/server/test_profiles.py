"""Sandbox profiles as the server knows them: who is refused, and which places are swept."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from blocks import SandboxProfile
from flowforge import prefect_api
from flowforge.engines.sandboxes.local import LocalProvider
from flowforge.engines.sandboxes.profiles import provider_of
from flowforge.engines.sandboxes.sandbox import Provider, Sandbox
from flowforge.errors import Unavailable
from flowforge.ledger.journal.news import News
from flowforge.rules.jobs import profiles
from flowforge.rules.jobs.profiles import Known
from flowforge.rules.jobs.spec import JobSpec, SandboxChoice
from flowforge.server.in_process import InProcess
from flowforge.server.journal import Journal
from flowforge.server.profiles import SavedProfiles
from flowforge.server.sweeper import Sweeper
from tests.docker_engine import a_docker_profile
from tests.ports import free_port
from tests.server.attempts import attempt, end, on
from tests.server.running import Running
from tests.server.test_jobs import SPEC, a_job, database, problem, submit, tell

SMALL = SandboxChoice(memory_mb=64, disk_mb=16)


def save(server: Running, monkeypatch: pytest.MonkeyPatch, name: str, **fields: Any) -> None:
    """Save a profile as a person does in Python."""
    monkeypatch.setenv("FLOWFORGE_API_URL", f"{server.api}/api")
    with prefect_api.connect():
        SandboxProfile(**fields).save(name)


def wrong(server: Running, **sandbox: Any) -> dict[str, str]:
    told = problem(submit(server, SPEC | {"sandbox": sandbox}), 422)
    return {one["field"]: one["message"] for one in told["fields"]}


def test_a_job_beyond_its_profile_is_refused_and_each_field_named(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = wrong(server, profile="tight")
    save(server, monkeypatch, "tight", kind="docker", cpus=1, memory_mb=512, egress=["lib.example"])
    asked = {"profile": "tight", "cpus": 2, "egress": ["lib.example", "example.com"]}

    found = wrong(server, **asked)

    assert "there are: default" in before["sandbox.profile"]
    assert sorted(found) == ["sandbox.cpus", "sandbox.egress.1", "sandbox.memory_mb"]
    assert "2 is more than the 1 of the profile tight" in found["sandbox.cpus"]
    assert "tight" in wrong(server, profile="loose")["sandbox.profile"]
    job = a_job(server, sandbox={"profile": "tight", "memory_mb": 512, "egress": ["lib.example"]})
    tell(server, f"{job}/cancel")


def test_without_an_answer_from_prefect_nobody_is_let_in() -> None:
    async def story() -> None:
        api = InProcess(Response("no", 503))
        with pytest.raises(Unavailable):
            await SavedProfiles(api).check(JobSpec(prompt="Do it."))
        await api.close()

    asyncio.run(story())


def test_a_profile_that_was_made_tighter_refuses_soon_and_one_that_is_new_is_known_at_once() -> (
    None
):
    documents: list[dict[str, object]] = []

    async def story() -> None:
        api = InProcess(_Saying(documents))
        saved = SavedProfiles(api)
        spec = JobSpec(prompt="Do it.", sandbox=SandboxChoice(profile="new", cpus=2))
        assert [one.field for one in await saved.check(spec)] == ["sandbox.profile"]
        documents.append({"name": "new", "data": {"cpus": 1}})
        assert [one.field for one in await saved.check(spec)] == ["sandbox.cpus"]
        documents[0]["data"] = {"cpus": 2}
        assert await saved.check(spec) == []
        await api.close()

    asyncio.run(story())


@contextlib.asynccontextmanager
async def sweeping(
    engine: AsyncEngine, known: Callable[[], Awaitable[Known]]
) -> AsyncIterator[None]:
    running = asyncio.create_task(Sweeper(Journal(engine, News()), known, 0.1).run())
    try:
        yield
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(60):
        while not await condition():
            await asyncio.sleep(0.05)


async def an_orphan(engine: AsyncEngine, job: str, provider: Provider) -> Sandbox:
    """The sandbox of an attempt that is over."""
    async with attempt(engine, job) as lease:
        sandbox = await provider.open(job, lease.fence, SMALL)
        await end(engine, lease)
    return sandbox


async def is_gone(provider: Provider, sandbox: Sandbox) -> bool:
    return sandbox.id not in [found for _, _, found in await provider.list_open()]


def test_a_place_that_is_down_keeps_no_other_from_being_swept(
    server: Running, caplog: pytest.LogCaptureFixture
) -> None:
    provider = LocalProvider()
    if why := provider.why_not():
        pytest.skip(str(why))
    job = a_job(server)
    caplog.set_level(logging.WARNING)
    address = f"tcp://127.0.0.1:{free_port()}"

    async def known() -> Known:
        return profiles.read({"away": {"kind": "docker", "address": address}, "odd": {"cpus": 0}})

    async def story(engine: AsyncEngine) -> None:
        sandbox = await an_orphan(engine, job, provider)
        async with sweeping(engine, known):
            await until(lambda: is_gone(provider, sandbox))
            await until(_said(caplog, address))
        await sandbox.close()

    on(database(server), story)
    assert len([one for one in caplog.messages if address in one]) == 1


def _said(caplog: pytest.LogCaptureFixture, what: str) -> Callable[[], Awaitable[bool]]:
    async def said() -> bool:
        return any(what in one for one in caplog.messages)

    return said


@pytest.mark.slow
def test_the_sandboxes_of_a_profile_that_is_saved_later_are_swept(server: Running) -> None:
    saved: Known = {}
    provider = provider_of(a_docker_profile())
    job = a_job(server)

    async def known() -> Known:
        return saved

    async def story(engine: AsyncEngine) -> None:
        nonlocal saved
        sandbox = await an_orphan(engine, job, provider)
        async with sweeping(engine, known):
            saved = {"boxes": a_docker_profile()}
            await until(lambda: is_gone(provider, sandbox))
        assert await sandbox.health() != "ok"
        await sandbox.close()

    on(database(server), story)


class _Saying:
    """Prefect, as far as it tells documents."""

    def __init__(self, documents: list[dict[str, object]]) -> None:
        self._documents = documents

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await JSONResponse(self._documents)(scope, receive, send)
