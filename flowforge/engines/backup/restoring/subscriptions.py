"""The subscriptions of a database, because PostgreSQL drops no database that has one.

A restored database has those of its original, switched off and with the name of a slot that the
original goes on using: they are dropped without a word to the publisher. One that is switched on
still receives, as in a database that was live until a restore took its place: a person decides.
"""

from __future__ import annotations

import shlex
from typing import Any

import psycopg
from psycopg.sql import SQL, Identifier

from flowforge.engines.postgres import connection
from flowforge.errors import Refused
from flowforge.rules.addresses import PostgresAddress

_OF_DATABASE = """
SELECT s.subname, s.subenabled, s.subslotname FROM pg_catalog.pg_subscription s
  JOIN pg_catalog.pg_database d ON d.oid = s.subdbid WHERE d.datname = %s ORDER BY 1
"""
_LET_GO = ("ALTER SUBSCRIPTION {} SET (slot_name = NONE)", "DROP SUBSCRIPTION {}")


def check(session: psycopg.Connection[Any], database: str) -> None:
    """Make sure that no subscription of a database that is to go still receives.

    Raises:
        Refused: One does; the hint has the commands that end it.
    """
    for name, is_on, slot in session.execute(_OF_DATABASE, (database,)).fetchall():
        if is_on:
            raise Refused(
                f"{database!r} still receives by its subscription {name!r}, so it stays.",
                hint=f"{_commands(database, name)}; then again. At its publisher drop the slot, "
                f"unless another subscription uses it: {_drop_slot(slot or name)}",
            )


def release(session: psycopg.Connection[Any], address: PostgresAddress, database: str) -> None:
    """Drop the subscriptions of a database that is about to go, and leave their slots alone.

    Args:
        session: A session on another database of the server.
        address: The server.
        database: The database.

    Raises:
        Refused: One of them still receives, or the role does not own it.
    """
    check(session, database)
    found = session.execute(_OF_DATABASE, (database,)).fetchall()
    if not found:
        return
    with connection.explained(address, database), connection.connect(address, database) as inside:
        for name, _, _ in found:
            for statement in _LET_GO:
                inside.execute(SQL(statement).format(Identifier(name)))


def _commands(database: str, name: str) -> str:
    quoted = Identifier(name).as_string()
    statements = [f"ALTER SUBSCRIPTION {quoted} DISABLE", *(s.format(quoted) for s in _LET_GO)]
    words = ["psql", "-d", database]
    for statement in statements:
        words += ["-c", statement]
    return shlex.join(words)


def _drop_slot(slot: str) -> str:
    return f"SELECT pg_drop_replication_slot('{slot}');"
