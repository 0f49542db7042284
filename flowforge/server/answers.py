"""`/ff/v1`: what the ledger knows, for programs and the command line. It only reads.

An error is `{"error": {"kind", "message", "hint"}}`, with the three kinds of the whole library.
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
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from flowforge.errors import Damaged, FlowForgeError, Refused, Unavailable
from flowforge.ledger import protection, queries
from flowforge.rules import standing
from flowforge.rules.backups import Copy, Operation, Proof
from flowforge.rules.standing import DatabaseStanding

SCHEMA = 1
_KINDS: dict[type[FlowForgeError], tuple[str, int]] = {
    Unavailable: ("unavailable", 503),
    Refused: ("refused", 409),
    Damaged: ("damaged", 500),
}


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


class NotThere(Refused):
    """What was asked for is not in the ledger."""


def create_app(
    ledger: sa.Engine | None,
    *,
    version: str,
    prefect: str,
    is_ready: Callable[[], bool],
    auth_string: str | None = None,
) -> FastAPI:
    """Make the application that is mounted at `/ff/v1`.

    Args:
        ledger: Where to read; without one every route says how to name one.
        version: FlowForge's own version.
        prefect: Prefect's version.
        is_ready: Whether writes succeed.
        auth_string: `user:password` to demand, the one Prefect's API demands too.
    """
    app = FastAPI(title="FlowForge", version=version, docs_url=None, redoc_url=None)
    _explain_errors(app)
    if auth_string:
        _demand(app, auth_string)

    def read() -> sa.Engine:
        if ledger is None:
            raise Refused(
                "This server has no ledger.",
                hint="Set DATABASE_URL or FLOWFORGE_LEDGER_URL to a PostgreSQL and restart it.",
            )
        return ledger

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
    return app


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


def _explain_errors(app: FastAPI) -> None:
    @app.exception_handler(FlowForgeError)
    async def known(request: Request, error: FlowForgeError) -> JSONResponse:
        kind, status = next(v for k, v in _KINDS.items() if isinstance(error, k))
        status = 404 if isinstance(error, NotThere) else status
        return _error(status, kind, error.message, error.hint)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        said = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        return _error(
            422, "refused", f"The request is not valid: {said}.", "Correct what it names."
        )

    @app.exception_handler(HTTPException)
    async def other(request: Request, error: HTTPException) -> JSONResponse:
        hint = "The routes are /ff/v1/status, copies and operations; they are only read."
        return _error(error.status_code, "refused", str(error.detail), hint)


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
        return _error(401, "refused", "This server asks who you are.", hint)


def _error(status: int, kind: str, message: str, hint: str) -> JSONResponse:
    return JSONResponse({"error": {"kind": kind, "message": message, "hint": hint}}, status)
