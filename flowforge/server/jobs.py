"""`/ff/v1/jobs`: submit agent jobs, look at them, steer them.

A spec is checked here as far as anybody can before it runs: its form, its model's price, its files,
its hosts. What a job leaves behind and what happens in it are in `job_contents`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import FastAPI, Header, Query, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from flowforge.errors import Refused
from flowforge.ledger.journal import approvals, artifacts, events, jobs, leases, prices, turns
from flowforge.rules.jobs import states, submission
from flowforge.rules.jobs.records import Job, JobSummary
from flowforge.rules.jobs.spec import FileSet, JobSpec
from flowforge.rules.jobs.states import State
from flowforge.rules.jobs.submission import Problem
from flowforge.server import job_contents, problems
from flowforge.server.journal import Journal
from flowforge.server.problems import TooLarge

MAX_BODY_BYTES = 2 * submission.MAX_FILES_BYTES
MOST_WAIT_SECONDS = 25.0
_MOST_LISTED = 200
_UNATTENDED = ("queued", "waiting")
_SOMEBODY = "somebody over HTTP"

OpenJournal = Callable[[], Journal]
Key = Annotated[
    str | None, Header(alias="Idempotency-Key", min_length=1, max_length=255, pattern=r"^[ -~]+$")
]
By = Annotated[str, Field(min_length=1, max_length=200, description="Who says so")]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class CancelBody(_Body):
    """Who wants a job to end."""

    by: By = _SOMEBODY


class ApprovalBody(_Body):
    """What a person says to a command."""

    turn: int = Field(ge=1)
    tool_use_id: str = Field(min_length=1, max_length=200)
    granted: bool
    by: By


class ForkBody(_Body):
    """Where a new job leaves an old one, and what it shall do instead."""

    turn: int = Field(ge=1, description="The last turn that is taken over")
    prompt: str = Field(min_length=1, max_length=500_000)


def add_routes(app: FastAPI, journal: OpenJournal) -> None:
    """Add the routes of jobs to the application."""
    _add_submit(app, journal)
    _add_looks(app, journal)
    _add_steering(app, journal)
    job_contents.add_routes(app, journal)


def _add_submit(app: FastAPI, journal: OpenJournal) -> None:
    @app.post("/jobs", status_code=201)
    async def submit(request: Request, key: Key = None) -> Response:
        spec = await _read_spec(request)
        return await _submit(journal(), spec, key)

    @app.post("/jobs/{job}/fork", status_code=201)
    async def fork(job: str, body: ForkBody, key: Key = None) -> Response:
        opened = journal()
        source = await jobs.get(opened.engine, job)
        replied = [turn.n for turn in await turns.read(opened.engine, job) if turn.reply]
        if body.turn not in replied:
            there = f"1 to {len(replied)}" if replied else "none yet"
            message = f"{job} has no finished turn {body.turn}; there are: {there}."
            raise problems.say_invalid([Problem(field="turn", message=message)])
        fields = source.spec.model_dump() | {"prompt": body.prompt, "deadline": None}
        spec = _validate(lambda: JobSpec.model_validate(fields))
        return await _submit(opened, spec, key, forked=(job, body.turn))


def _add_looks(app: FastAPI, journal: OpenJournal) -> None:
    @app.get("/jobs")
    async def list_jobs(
        state: Annotated[list[State] | None, Query()] = None,
        label: Annotated[list[str] | None, Query()] = None,
        tenant: str | None = None,
        before: str | None = None,
        limit: Annotated[int, Query(ge=1, le=_MOST_LISTED)] = 50,
    ) -> JSONResponse:
        found = await jobs.list_jobs(
            journal().engine,
            tenant=tenant,
            in_states=state,
            labels=_read_labels(label or []),
            before=before,
            limit=limit,
        )
        following = found[-1].id if len(found) == limit else None
        return _say(jobs=[one.model_dump(mode="json") for one in found], next=following)

    @app.get("/jobs/{job}")
    async def one_job(
        job: str, wait_seconds: Annotated[float, Query(ge=0, le=MOST_WAIT_SECONDS)] = 0
    ) -> JSONResponse:
        opened = journal()
        await _wait_for_end(opened, job, wait_seconds)
        return _say(job=await describe(opened, job))


def _add_steering(app: FastAPI, journal: OpenJournal) -> None:
    @app.post("/jobs/{job}/cancel")
    async def cancel(job: str, body: CancelBody | None = None) -> JSONResponse:
        opened, by = journal(), (body or CancelBody()).by
        before = await jobs.look(opened.engine, job)
        await jobs.request_cancel(opened.engine, job, by)
        found = await jobs.look(opened.engine, job)
        if before.state in _UNATTENDED and found.state == "cancelled":
            ended = {"state": found.state, "reason": found.reason, "turns": found.turns}
            await events.append(opened.engine, job, [("ended", ended)])
        return _say(job=_summary(found))

    @app.post("/jobs/{job}/approve")
    async def approve(job: str, body: ApprovalBody) -> JSONResponse:
        engine = journal().engine
        await jobs.look(engine, job)
        await approvals.answer(
            engine, job, body.turn, body.tool_use_id, granted=body.granted, by=body.by
        )
        answered = [
            one.model_dump(mode="json")
            for one in await approvals.list_approvals(engine, job)
            if (one.turn, one.tool_use_id) == (body.turn, body.tool_use_id)
        ]
        return _say(approval=answered[0])

    @app.delete("/jobs/{job}")
    async def delete(job: str) -> JSONResponse:
        await jobs.delete(journal().engine, job)
        return _say(deleted=job)


async def describe(journal: Journal, job: str) -> dict[str, Any]:
    """A job as it is answered: without the files that came with it.

    Raises:
        Refused: There is none with this id.
    """
    found = await jobs.get(journal.engine, job)
    attempts = await leases.list_attempts(journal.engine, job)
    asked = await approvals.list_approvals(journal.engine, job)
    left = await artifacts.list_artifacts(journal.engine, job)
    return _summary(found) | {
        "spec": _spec_of(found),
        "result": found.result,
        "attempts": [one.model_dump(mode="json") for one in attempts],
        "approvals": [one.model_dump(mode="json") for one in asked],
        "artifacts": [one.model_dump(mode="json") for one in left],
    }


async def _submit(
    journal: Journal, spec: JobSpec, key: str | None, forked: tuple[str, int] | None = None
) -> Response:
    wrong = submission.find_problems(spec, datetime.now(UTC))
    if spec.callback and not journal.takes_callbacks:
        message = "This server cannot sign callbacks; set FLOWFORGE_WEBHOOK_SECRET where it runs."
        wrong.append(Problem(field="callback", message=message))
    wrong += await _of_model(journal, spec)
    for check in journal.checks:
        wrong += await check(spec)
    if wrong:
        raise problems.say_invalid(wrong)
    job, is_new = await jobs.submit(journal.engine, spec, key=key, forked=forked)
    told = _say(job=_summary(await jobs.look(journal.engine, job)), new=is_new)
    told.status_code = 201 if is_new else 200
    told.headers["location"] = f"/ff/v1/jobs/{job}"
    return told


async def _of_model(journal: Journal, spec: JobSpec) -> list[Problem]:
    try:
        await prices.price(journal.engine, spec.model, datetime.now(UTC).date())
    except Refused as error:
        return [Problem(field="model", message=f"{error.message} {error.hint}")]
    return []


async def _read_spec(request: Request) -> JobSpec:
    """Read a body of bounded size; a large one is parsed beside the loop."""
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > MAX_BODY_BYTES:
            raise TooLarge(
                f"The job has more than {MAX_BODY_BYTES:,} bytes.",
                hint="Put its files into a Git repository and give its URL.",
            )
    content = bytes(body)
    return await asyncio.to_thread(
        _validate, lambda: JobSpec.model_validate_json(content or b"null")
    )


def _validate(make: Callable[[], JobSpec]) -> JobSpec:
    try:
        return make()
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False, include_context=False)
        raise problems.as_invalid(found) from None


async def _wait_for_end(journal: Journal, job: str, seconds: float) -> None:
    until = time.monotonic() + seconds
    with journal.news.watch(job) as watch:
        while (left := until - time.monotonic()) > 0:
            watch.seen()
            if states.is_end((await jobs.look(journal.engine, job)).state):
                return
            await watch.wait(min(left, events.POLL_SECONDS))


def _read_labels(given: list[str]) -> dict[str, str]:
    labels = {}
    for one in given:
        name, equals, value = one.partition("=")
        if not equals:
            problem = Problem(field="label", message=f"{one!r} is not of the form name=value.")
            raise problems.say_invalid([problem])
        labels[name] = value
    return labels


def _summary(job: JobSummary) -> dict[str, Any]:
    return job.model_dump(mode="json", exclude={"spec", "result"})


def _spec_of(job: Job) -> dict[str, Any]:
    files = {"files", "binary", "executable", "links"}
    spec = job.spec.model_dump(mode="json", exclude={"workspace": files})
    if isinstance(job.spec.workspace, FileSet):
        spec["workspace"]["paths"] = job.spec.workspace.paths
    return spec


def _say(**fields: object) -> JSONResponse:
    return JSONResponse({"schema": 1, **fields})
