"""`/ff/v1/jobs/{job}/...`: what happens in a job, what it said and cost, what it left behind."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Annotated, Any
from urllib.parse import quote, unquote

from fastapi import FastAPI, Header, Query, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from flowforge.errors import Refused
from flowforge.ledger.journal import artifacts, events, jobs, money, turns
from flowforge.rules.jobs import costs, states
from flowforge.rules.jobs.records import Artifact, Turn
from flowforge.server import job_stream
from flowforge.server.journal import Journal
from flowforge.server.problems import NotThere

_EVENT_STREAM = "text/event-stream"
_PATCH_TYPE = "text/x-patch"

OpenJournal = Callable[[], Journal]
Number = Annotated[int, Query(ge=0)]


def add_routes(app: FastAPI, journal: OpenJournal) -> None:
    """Add the routes to the application."""
    _add_events(app, journal)
    _add_readings(app, journal)
    _add_artifacts(app, journal)


def _add_events(app: FastAPI, journal: OpenJournal) -> None:
    @app.get("/jobs/{job}/events", response_model=None)
    async def read_events(
        request: Request,
        job: str,
        after: Number = 0,
        limit: Annotated[int, Query(ge=1, le=1000)] = 500,
        last_seen: Annotated[int | None, Header(alias="Last-Event-ID", ge=0)] = None,
    ) -> Response:
        opened = journal()
        found = await jobs.look(opened.engine, job)
        known = after if last_seen is None else last_seen
        if _EVENT_STREAM in request.headers.get("accept", ""):
            # A proxy that collects answers would hold events back.
            headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
            sent = job_stream.stream(opened, job, known)
            return StreamingResponse(sent, media_type=_EVENT_STREAM, headers=headers)
        page = await events.read(opened.engine, job, after=known, limit=limit)
        return _say(
            events=[one.model_dump(mode="json") for one in page],
            next=page[-1].seq if page else known,
            state=found.state,
        )


def _add_readings(app: FastAPI, journal: OpenJournal) -> None:
    @app.get("/jobs/{job}/cost")
    async def cost(job: str) -> JSONResponse:
        engine = journal().engine
        found = await jobs.look(engine, job)
        added = costs.add_up(await money.list_calls(engine, job))
        shown = added.model_dump(mode="json") | {"limit_usd": str(found.limit_usd)}
        return _say(job=job, state=found.state, cost=shown)

    @app.get("/jobs/{job}/transcript")
    async def transcript(job: str, after: Number = 0) -> JSONResponse:
        engine = journal().engine
        found = await jobs.get(engine, job)
        said = [_turn(turn) for turn in await turns.read(engine, job, after=after)]
        return _say(job=job, state=found.state, prompt=found.spec.prompt, turns=said)


def _add_artifacts(app: FastAPI, journal: OpenJournal) -> None:
    @app.get("/jobs/{job}/patch")
    async def patch(job: str) -> Response:
        engine = journal().engine
        found = await jobs.look(engine, job)
        if not states.is_end(found.state):
            raise Refused(
                f"{job} is {found.state}; its patch is made when it ends.",
                hint=f"Wait for it with `flowforge job tail {job}`.",
            )
        if not any(one.name == "patch" for one in await artifacts.list_artifacts(engine, job)):
            raise NotThere(
                f"{job} left no patch: it ended {found.state} without a change to keep.",
                hint=f"Read what it did with `flowforge job replay {job}`.",
            )
        return Response(await artifacts.get(engine, job, "patch"), media_type=_PATCH_TYPE)

    @app.get("/jobs/{job}/artifacts")
    async def list_artifacts(job: str) -> JSONResponse:
        engine = journal().engine
        await jobs.look(engine, job)
        found = await artifacts.list_artifacts(engine, job)
        return _say(artifacts=[one.model_dump(mode="json") for one in found])

    @app.get("/jobs/{job}/artifacts/{name}")
    async def one_artifact(job: str, name: str) -> Response:
        engine, name = journal().engine, unquote(name)
        await jobs.look(engine, job)
        found = {one.name: one for one in await artifacts.list_artifacts(engine, job)}
        if name not in found:
            raise NotThere(
                f"{job} has no artifact {name!r}.",
                hint=f"It has: {', '.join(found) or 'none'}.",
            )
        return _download(found[name], await artifacts.get(engine, job, name))


def _download(artifact: Artifact, content: bytes) -> Response:
    """Bytes that a job wrote: a browser saves them and never shows or runs them."""
    headers = {
        "content-disposition": f"attachment; filename*=UTF-8''{quote(artifact.name, safe='')}",
        "content-security-policy": "sandbox",
        "etag": f'"{artifact.sha256}"',
    }
    return Response(content, media_type=artifact.kind, headers=headers)


def _turn(turn: Turn) -> dict[str, Any]:
    """A turn with the blocks of its reply, read from what the model said."""
    shown = turn.model_dump(mode="json", exclude={"reply", "request_hash"})
    reply = None if turn.reply is None else json.loads(turn.reply.text)
    content = reply.get("content", []) if isinstance(reply, dict) else []
    stop_reason = None if turn.reply is None else turn.reply.stop_reason
    return shown | {"content": content, "stop_reason": stop_reason}


def _say(**fields: object) -> JSONResponse:
    return JSONResponse({"schema": 1, **fields})
