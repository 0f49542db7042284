"""Put the owner's questions to a restored copy (L4).

They run as a role of their own that may read everything and change nothing, on a server that dies
with the proof: a question that drops a table or starts a program is refused there. Only the single
value it answers with is kept.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Iterator, Sequence
from typing import Any

import psycopg
from psycopg.sql import SQL, Identifier

from flowforge.engines.postgres import connection
from flowforge.errors import FlowForgeError
from flowforge.rules.addresses import PostgresAddress
from flowforge.rules.proofs import Answer, Verdict
from flowforge.rules.proving import Question, is_expected, shorten, spell

TIMEOUT_SECONDS = 60
_OLDEST_MAJOR = 14
_SETTINGS = {
    "default_transaction_read_only": "on",
    "statement_timeout": f"{TIMEOUT_SECONDS}s",
    "search_path": '"$user", public',
}
# What says something about the question or this machine, and nothing about the copy.
_NOT_THE_COPY = (
    psycopg.errors.SyntaxError,
    psycopg.errors.InsufficientPrivilege,
    psycopg.errors.QueryCanceled,
    psycopg.errors.ReadOnlySqlTransaction,
    psycopg.OperationalError,
)


def ask(
    address: PostgresAddress, database: str, major: int, questions: Sequence[Question]
) -> list[Answer]:
    """Ask every question and say how each was answered, in their order.

    Args:
        address: A scratch server, entered as its superuser.
        database: The restored database.
        major: The server's major version.
        questions: What to ask.
    """
    if not questions:
        return []
    if major < _OLDEST_MAJOR:
        cause = f"PostgreSQL {major} has no role that reads everything and changes nothing"
        return [_answer(question, "inconclusive", cause=cause) for question in questions]
    with _reader(address) as reader:
        return [_ask(reader, database, question) for question in questions]


@contextlib.contextmanager
def _reader(address: PostgresAddress) -> Iterator[PostgresAddress]:
    """The address of a role that may read everything, made for these questions alone."""
    role = f"flowforge_asks_{secrets.token_hex(4)}"
    with connection.connect(address, "postgres") as session:
        session.execute(SQL("CREATE ROLE {} LOGIN BYPASSRLS").format(Identifier(role)))
        session.execute(SQL("GRANT pg_read_all_data TO {}").format(Identifier(role)))
        try:
            yield address.model_copy(update={"user": role})
        finally:
            session.execute(SQL("DROP ROLE {}").format(Identifier(role)))


def _ask(reader: PostgresAddress, database: str, question: Question) -> Answer:
    clock = time.monotonic()
    try:
        with connection.connect(reader, database, settings=_SETTINGS) as session:
            value = _single_value(session, question.sql)
    except _NOT_THE_COPY as error:
        return _answer(question, "inconclusive", clock, cause=_first_line(error))
    except psycopg.Error as error:
        return _answer(question, "failed", clock, cause=_first_line(error))
    except FlowForgeError as error:
        return _answer(question, "inconclusive", clock, cause=error.message)
    except _ManyValues as many:
        return _answer(question, "failed", clock, cause=str(many))
    verdict: Verdict = "proven" if is_expected(question, value) else "failed"
    return _answer(question, verdict, clock, answer=shorten(spell(value)))


class _ManyValues(Exception):
    """A question was answered with anything but one value."""


def _single_value(session: psycopg.Connection[Any], sql: str) -> object:
    # A prepared statement is exactly one statement: none can hide behind a semicolon.
    cursor = session.execute(sql.encode(), prepare=True)
    rows = cursor.fetchmany(2) if cursor.description else []
    if len(rows) != 1 or len(rows[0]) != 1:
        columns = len(cursor.description or ())
        raise _ManyValues(
            f"it answers with {cursor.rowcount} rows of {columns} columns, not with one value"
        )
    return rows[0][0]


def _answer(
    question: Question,
    verdict: Verdict,
    clock: float | None = None,
    *,
    answer: str = "",
    cause: str | None = None,
) -> Answer:
    return Answer(
        name=question.name,
        verdict=verdict,
        answer=answer,
        expected=question.expected,
        cause=cause,
        seconds=0.0 if clock is None else round(time.monotonic() - clock, 3),
    )


def _first_line(error: psycopg.Error) -> str:
    """The server's message without its detail, which can hold a row."""
    return (error.diag.message_primary or str(error).splitlines()[0])[:200]
