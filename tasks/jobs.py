"""Steps on agent jobs: entered in the journal, worked on, answered for by a person.

The journal is the truth. A run is one attempt; which one goes on is decided by the journal alone.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import AsyncIterator
from typing import Any

from prefect import get_run_logger, runtime, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import FlowRun
from prefect.flow_runs import suspend_flow_run
from prefect.input import RunInput
from pydantic import Field
from sqlalchemy.ext.asyncio import AsyncEngine

from blocks import lookup
from flowforge.engines.agent import submitting
from flowforge.engines.agent.attempt import Attempt, Services, attempt
from flowforge.engines.agent.sources_access import Access, KeyAccess, NoAccess, TokenAccess
from flowforge.engines.agent.transport import Model
from flowforge.errors import Refused
from flowforge.ledger.journal import approvals, connection, jobs, news, presence
from flowforge.rules.jobs.records import Approval
from flowforge.rules.jobs.spec import GitSource, JobSpec
from flowforge.settings import read_settings
from tasks import sandboxes


class Permission(RunInput):
    """What a person answers."""

    allow: bool = Field(description="let the command run")
    approver: str = Field(min_length=1, description="who you are")


@task(task_run_name="submit", cache_policy=NO_CACHE)
async def submit(spec: JobSpec) -> str:
    """Enter a job in the journal, once for this run however often it starts; return its id.

    Raises:
        Refused: Something it asks for is not to be had; nothing was written.
    """
    async with opened() as engine, _model() as model:
        await submitting.check(engine, spec, model.account, await sandboxes.known())
        if (why := (await sandboxes.entrusted(spec)).why_not) is not None:
            raise why
        if isinstance(access := _access(spec), NoAccess):
            raise access.why
        job, _ = await jobs.submit(engine, spec, key=f"run:{runtime.flow_run.id}")
        get_run_logger().info("job %s", job)
        return job


@contextlib.asynccontextmanager
async def at_work(job: str) -> AsyncIterator[Attempt]:
    """Claim a job and work on it while the block lasts.

    Raises:
        Busy: A living attempt has it.
        Refused: It has ended, or there is none.
    """
    async with opened() as engine, _model() as model:
        spec = (await jobs.get(engine, job)).spec
        access, entrusted = _access(spec), await sandboxes.entrusted(spec)
        async with news.listen(engine) as heard, presence.presence(engine) as present:
            services = Services(
                engine=engine,
                presence=present,
                news=heard,
                model=model,
                provider=sandboxes.ByProfile(entrusted),
                worker=f"{socket.gethostname()}:{os.getpid()}",
                access=access,
                secrets=_secrets(model, access) | entrusted.values,
            )
            run = runtime.flow_run.id
            async with attempt(services, job, flow_run_id=str(run) if run else None) as work:
                yield work


async def ask_people(job: str) -> None:
    """Suspend the run while a command of the job waits for a person; note the answer.

    A run that is resumed starts from its first line, so this is the first thing it does.
    """
    async with opened() as engine:
        waiting = [a for a in await approvals.list_approvals(engine, job) if a.state == "asked"]
        for approval in waiting[:1]:
            said = await _ask(job, approval)
            await approvals.answer(
                engine,
                job,
                approval.turn,
                approval.tool_use_id,
                granted=said.allow,
                by=said.approver,
            )


async def cancel_with(run: FlowRun) -> None:
    """Cancel the job that a cancelled run worked on."""
    async with opened() as engine:
        job = run.parameters.get("job") or await jobs.find_by_key(engine, f"run:{run.id}")
        if job is not None:
            with contextlib.suppress(Refused):  # it has ended meanwhile
                await jobs.request_cancel(engine, str(job), by="the run's cancellation in Prefect")


@contextlib.asynccontextmanager
async def opened() -> AsyncIterator[AsyncEngine]:
    """The journal, while the block lasts.

    Raises:
        Refused: None is configured.
    """
    url = read_settings().ledger_url
    if url is None:
        raise Refused("No ledger is configured.", hint="Set FLOWFORGE_LEDGER_URL for this worker.")
    engine = connection.open_engine(url.get_secret_value())
    try:
        yield engine
    finally:
        await engine.dispose()


async def _ask(job: str, approval: Approval) -> Permission:
    form = Permission.with_initial_data(
        description=f"Job {job} wants to run\n\n```\n{approval.command}\n```\n",
        allow=False,
        approver="",
    )
    key = f"{approval.turn}-{approval.tool_use_id}"
    waiting: Any = suspend_flow_run(wait_for_input=form, timeout=24 * 3600, key=key)
    said = await waiting
    assert isinstance(said, Permission)
    return said


@contextlib.asynccontextmanager
async def _model() -> AsyncIterator[Model]:
    model = Model(lookup.find_account("default"))
    try:
        yield model
    finally:
        await model.close()


def _access(spec: JobSpec) -> Access | None:
    """What opens the repository; one that is not to be had fails the attempt that needs it."""
    if not isinstance(spec.workspace, GitSource) or not spec.workspace.secret:
        return None
    try:
        return lookup.find_git_access(spec.workspace.secret)
    except Refused as error:
        return NoAccess(error)


def _secrets(model: Model, access: Access | None) -> dict[str, str]:
    """What must never be seen in a job's events, transcript or output."""
    secrets = {"account": model.account.api_key.get_secret_value()}
    match access:
        case KeyAccess():
            secrets["git access"] = access.private_key
        case TokenAccess():
            secrets["git access"] = access.token
    return {name: value for name, value in secrets.items() if len(value) >= 6}
