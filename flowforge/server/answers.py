"""`/ff/v1`: what the ledger knows and agent jobs, for programs and the command line.

While the ledger is away these routes answer 503 and everything else goes on.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Annotated
from urllib.parse import unquote
from uuid import UUID

import sqlalchemy as sa
from fastapi import FastAPI, Query, Request, Response
from pydantic import BaseModel, Field

from flowforge.errors import Refused
from flowforge.ledger import protection, queries
from flowforge.rules import standing
from flowforge.rules.backups import Copy, Operation, Proof
from flowforge.rules.standing import DatabaseStanding
from flowforge.server import breakers, jobs, problems
from flowforge.server.journal import Journal
from flowforge.server.problems import NotThere

SCHEMA = 1


class Answer(BaseModel):
    """What every answer says first."""

    schema_version: int = Field(default=SCHEMA, serialization_alias="schema")


class Status(Answer):
    """How the platform is."""

    status: str
    version: str
    prefect: str
    ready: bool
    databases: list[DatabaseStanding]


class Copies(Answer):
    """Copies, newest first."""

    copies: list[Copy]


class OneCopy(Answer):
    """A copy and its proofs, newest first."""

    copy_: Copy = Field(serialization_alias="copy")
    proofs: list[Proof]


class Operations(Answer):
    """Operations, newest first."""

    operations: list[Operation]


class OneOperation(Answer):
    """One operation."""

    operation: Operation


def create_app(
    ledger: sa.Engine | None,
    journal: Journal | None = None,
    *,
    version: str,
    prefect: str,
    is_ready: Callable[[], bool],
    auth_string: str | None = None,
) -> FastAPI:
    """Make the application that is mounted at `/ff/v1`.

    Args:
        ledger: Where to read; without one every route says how to name one.
        journal: Where agent jobs are.
        version: FlowForge's own version.
        prefect: Prefect's version.
        is_ready: Whether writes succeed.
        auth_string: `user:password` to demand, the one Prefect's API demands too.
    """
    app = FastAPI(title="FlowForge", version=version, docs_url=None, redoc_url=None)
    problems.explain_errors(app)
    if auth_string:
        _demand(app, auth_string)

    def read() -> sa.Engine:
        if ledger is None:
            raise _no_ledger()
        return ledger

    def open_journal() -> Journal:
        if journal is None:
            raise _no_ledger()
        return journal

    @app.get("/status")
    def status() -> Status:
        known = protection.read_known(read()) if ledger else standing.NOTHING_KNOWN
        return Status(
            status="ok" if is_ready() else "not ready",
            version=version,
            prefect=prefect,
            ready=is_ready(),
            databases=standing.stand(known, datetime.now(UTC)),
        )

    _add_copies(app, read)
    _add_operations(app, read)
    jobs.add_routes(app, open_journal)
    breakers.add_routes(app, open_journal)
    return app


def _no_ledger() -> Refused:
    return Refused(
        "This server has no ledger.",
        hint="Set DATABASE_URL or FLOWFORGE_LEDGER_URL to a PostgreSQL and restart it.",
    )


def _add_copies(app: FastAPI, read: Callable[[], sa.Engine]) -> None:
    @app.get("/copies")
    def copies(server: str | None = None, database: str | None = None) -> Copies:
        return Copies(copies=queries.list_copies(read(), server, database))

    # The shell hands paths on as they were sent: a database may be called `a/b` or hold a newline.
    @app.get("/copies/{server}/{database}/{name}")
    def one_copy(server: str, database: str, name: str) -> OneCopy:
        server, database, name = unquote(server), unquote(database), unquote(name)
        engine = read()
        found = [c for c in queries.list_copies(engine, server, database) if c.name == name]
        if not found:
            raise NotThere(
                f"The ledger has no copy {name!r} of {server}/{database}.",
                hint="`flowforge backup list` shows the copies; `flowforge ledger rebuild` reads "
                "the stores again.",
            )
        proofs = queries.list_proofs(engine, server, database, name)
        return OneCopy(copy_=found[0], proofs=proofs)


def _add_operations(app: FastAPI, read: Callable[[], sa.Engine]) -> None:
    @app.get("/operations")
    def operations(
        operation: str | None = None, limit: Annotated[int, Query(ge=1, le=1000)] = 50
    ) -> Operations:
        return Operations(operations=queries.list_operations(read(), operation, limit))

    @app.get("/operations/{flow_run_id}")
    def one_operation(flow_run_id: UUID) -> OneOperation:
        found = queries.read_operation(read(), str(flow_run_id))
        if found is None:
            raise NotThere(
                f"The ledger has no operation of the run {flow_run_id}.",
                hint="Look at the run itself in the UI; one that still runs is not recorded yet.",
            )
        return OneOperation(operation=found)


def _demand(app: FastAPI, auth_string: str) -> None:
    @app.middleware("http")
    async def authenticate(
        request: Request, call_next: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        try:
            told = base64.b64decode(given, validate=True) if scheme.lower() == "basic" else b""
        except binascii.Error:
            told = b""
        if hmac.compare_digest(told, auth_string.encode()):
            return await call_next(request)
        hint = "Set PREFECT_API_AUTH_STRING to the server's own auth string."
        return problems.answer(401, "refused", "This server asks who you are.", hint)
