"""An outage of the database, as others meet it: one kind of answer, one line in the log.

Prefect's API answers 500 when PostgreSQL cannot be reached, and its own clients give up on that. A
503 marked as maintenance makes them wait, so running flows pause and go on afterwards.

Meanwhile every service of the server reports the outage with a full traceback, some every five
seconds. The prober already says when the database went and came back; the rest is cut to a line a
minute.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator

import asyncpg  # type: ignore[import-untyped]
import sqlalchemy as sa
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_REPEAT_SECONDS = 60.0
_OUTAGES = (
    ConnectionError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    sa.exc.OperationalError,
    sa.exc.InterfaceError,
    sa.exc.TimeoutError,
    sa.exc.PendingRollbackError,  # what the same session says after the first
)

_WAIT = JSONResponse(
    {"exception_message": "FlowForge's database is away; wait, then try again."},
    503,
    headers={"retry-after": "2", "prefect-maintenance": "true", "cache-control": "no-store"},
)


class Brief(logging.Filter):
    """Shortens records of an outage and drops those said less than a minute ago."""

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is written."""
        error = record.exc_info[1] if record.exc_info else None
        if error is None or not is_outage(error):
            return True
        now = time.monotonic()
        last = self._said.get(record.name)
        if last is not None and now - last < _REPEAT_SECONDS:
            return False
        self._said[record.name] = now
        said = (record.getMessage().strip().splitlines() or [""])[0]
        reason = (str(error).strip().splitlines() or [""])[0] or type(error).__name__
        record.msg, record.args = "%s (the database is away: %s)", (said, reason[:200])
        record.exc_info = record.exc_text = None
        return True


def keep_brief() -> None:
    """Put the filter on every handler there is."""
    brief = Brief()
    loggers = [logging.getLogger(name) for name in logging.root.manager.loggerDict]
    for handler in {h for logger in (logging.root, *loggers) for h in logger.handlers}:
        handler.addFilter(brief)


class Patient:
    """Answers 503 instead of 500 when it was the database that failed the application behind."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on; hold an answer of 5xx back until its cause is known."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        held: list[Message] = []
        started = False

        async def hold_failures(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start" and message["status"] < 500:
                started = True
            if started:
                await send(message)
            else:
                held.append(message)

        try:
            await self.app(scope, receive, hold_failures)
        except Exception as error:  # re-raised unless it is an outage
            if started or not is_outage(error):
                await _send_all(held, send)
                raise
            await _WAIT(scope, receive, send)
        else:
            await _send_all(held, send)


async def _send_all(messages: list[Message], send: Send) -> None:
    for message in messages:
        await send(message)


def is_outage(error: BaseException) -> bool:
    """Whether a database that cannot be reached is at the bottom of an error."""
    return any(_is_cause(cause) for cause in _causes(error))


def _is_cause(error: BaseException) -> bool:
    if isinstance(error, sa.exc.DBAPIError) and error.connection_invalidated:
        return True
    # The socket of a PostgreSQL on this machine is a file; asyncpg does not say which.
    is_lost_socket = isinstance(error, FileNotFoundError) and error.filename is None
    return is_lost_socket or isinstance(error, _OUTAGES)


def _causes(error: BaseException) -> Iterator[BaseException]:
    waiting, seen = [error], set()
    while waiting:
        current = waiting.pop()
        if id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        waiting += [e for e in (current.__cause__, current.__context__) if e is not None]
        if isinstance(current, BaseExceptionGroup):
            waiting += current.exceptions
