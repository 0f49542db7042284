"""How `/ff/v1` says no: a problem of RFC 9457 that carries the three kinds of the whole library.

{"type": "about:blank", "title": "Conflict", "status": 409, "detail": ..., "hint": ...,
 "error": {"kind": "refused", "message": ..., "hint": ...}}
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from flowforge.errors import Damaged, FlowForgeError, Refused, Unavailable
from flowforge.ledger.journal.jobs import NoSuchJob
from flowforge.rules.jobs.submission import Problem

_KINDS: dict[type[FlowForgeError], tuple[str, int]] = {
    Unavailable: ("unavailable", 503),
    Refused: ("refused", 409),
    Damaged: ("damaged", 500),
}
_BODY = "body."


class NotThere(Refused):
    """What was asked for does not exist."""


class Invalid(Refused):
    """The request itself cannot be as it is; says which fields."""

    def __init__(self, message: str, *, hint: str, problems: Sequence[Problem] = ()) -> None:
        super().__init__(message, hint=hint)
        self.problems = tuple(problems)


class TooLarge(Refused):
    """The request has more bytes than are read."""


_STATUS: dict[type[FlowForgeError], int] = {
    NotThere: 404,
    NoSuchJob: 404,
    Invalid: 422,
    TooLarge: 413,
}


def explain_errors(app: FastAPI) -> None:
    """Make every error of the application an answer of this form."""

    @app.exception_handler(FlowForgeError)
    async def known(request: Request, error: FlowForgeError) -> JSONResponse:
        kind, status = next(v for k, v in _KINDS.items() if isinstance(error, k))
        status = next((s for k, s in _STATUS.items() if isinstance(error, k)), status)
        fields = error.problems if isinstance(error, Invalid) else ()
        return answer(status, kind, error.message, error.hint, fields)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        wrong = as_invalid(error.errors())
        return answer(422, "refused", wrong.message, wrong.hint, wrong.problems)

    @app.exception_handler(HTTPException)
    async def other(request: Request, error: HTTPException) -> JSONResponse:
        hint = "The routes are /ff/v1/status, copies, operations, jobs and breakers."
        return answer(error.status_code, "refused", str(error.detail), hint)


def as_invalid(errors: Sequence[Mapping[str, Any]]) -> Invalid:
    """What a validation found, without the values it found it in: one may be a secret."""
    problems = [
        Problem(field=".".join(map(str, e["loc"])).removeprefix(_BODY), message=str(e["msg"]))
        for e in errors
    ]
    return say_invalid(problems)


def say_invalid(problems: Sequence[Problem]) -> Invalid:
    """The error of a request with these problems."""
    said = "; ".join(f"{one.field}: {one.message}" for one in problems)
    return Invalid(
        f"The request is not valid: {said.removesuffix('.')}.",
        hint="Correct what it names.",
        problems=problems,
    )


def answer(
    status: int, kind: str, message: str, hint: str, fields: Sequence[Problem] = ()
) -> JSONResponse:
    """An error as it is sent.

    Args:
        status: Of HTTP.
        kind: `unavailable`, `refused` or `damaged`.
        message: What went wrong.
        hint: What to do.
        fields: Which parts of the request cannot be as they are.
    """
    body: dict[str, object] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": message,
        "hint": hint,
        "error": {"kind": kind, "message": message, "hint": hint},
    }
    if fields:
        body["fields"] = [one.model_dump() for one in fields]
    return JSONResponse(body, status, media_type="application/problem+json")
