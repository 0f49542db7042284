"""Databases as a server lists them: looked at, marked, renamed, closed, dropped.

Everything here runs in a session on another database of the same server, so it works while the
database in question is closed.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg.sql import SQL, Composable, Composed, Identifier, Literal

from flowforge.engines.backup.restoring import subscriptions
from flowforge.engines.backup.steps import reached
from flowforge.engines.postgres import connection
from flowforge.errors import Busy, FlowForgeError, Refused, Unavailable
from flowforge.rules.addresses import PostgresAddress

_MAINTENANCE = ("postgres", "template1")
_LIST_VALUE = re.compile(r'(?:"(?:[^"]|"")*"|[\w$./-]+)(?:, (?:"(?:[^"]|"")*"|[\w$./-]+))*')
_LIST_SETTINGS = frozenset(
    {"search_path", "temp_tablespaces", "session_preload_libraries", "local_preload_libraries"}
)
_FIRST_OID = 16384
_MADE = SQL(" UNION ALL ").join(
    SQL("(SELECT FROM pg_catalog.{} WHERE oid >= {} LIMIT 1)").format(
        Identifier(catalogue), Literal(first)
    )
    for catalogue, first in (
        ("pg_class", _FIRST_OID),
        ("pg_proc", _FIRST_OID),
        ("pg_type", _FIRST_OID),
        ("pg_namespace", _FIRST_OID),
        ("pg_extension", _FIRST_OID),
        ("pg_largeobject_metadata", 0),  # whoever makes one may choose its number
    )
)
CLOSE_TRIES = 5


def maintenance_session(
    address: PostgresAddress, avoid: tuple[str, ...] = ()
) -> psycopg.Connection[Any]:
    """Enter a database that is none of those to be renamed.

    Raises:
        Refused: The role may enter none.
        Unavailable: The server does not answer.
    """
    failure: FlowForgeError | None = None
    for database in _MAINTENANCE:
        if database in avoid:
            continue
        try:
            return connection.connect(address, database)
        except Refused as error:
            failure = error
    raise failure or Refused(
        f"{address.name} has no database to work from.", hint="Create a database `postgres` there."
    )


def lock_target(session: psycopg.Connection[Any], database: str) -> None:
    """Keep a second restore of the same database away for as long as the session lasts.

    Raises:
        Busy: One is running.
    """
    row = session.execute(
        "SELECT pg_try_advisory_lock(hashtextextended('flowforge.restore:' || %s, 0))", (database,)
    ).fetchone()
    if not (row and row[0]):
        raise Busy(
            f"Another restore to {database!r} is running.", hint="Wait for it, then plan again."
        )


def comment(session: psycopg.Connection[Any], database: str) -> str | None:
    """The comment on a database; `None` when there is none, or no such database."""
    row = session.execute(
        "SELECT pg_catalog.shobj_description(oid, 'pg_database') FROM pg_catalog.pg_database"
        " WHERE datname = %s",
        (database,),
    ).fetchone()
    return row[0] if row else None


def commented(session: psycopg.Connection[Any], text: str) -> str | None:
    """The database whose comment begins so."""
    row = session.execute(
        "SELECT datname FROM pg_catalog.pg_database"
        " WHERE starts_with(pg_catalog.shobj_description(oid, 'pg_database'), %s)",
        (text,),
    ).fetchone()
    return row[0] if row else None


def comments(session: psycopg.Connection[Any]) -> list[tuple[str, str]]:
    """Every database with a comment, and the comment."""
    return session.execute(
        "SELECT datname, pg_catalog.shobj_description(oid, 'pg_database')"
        " FROM pg_catalog.pg_database"
        " WHERE pg_catalog.shobj_description(oid, 'pg_database') IS NOT NULL"
    ).fetchall()


def exists(session: psycopg.Connection[Any], database: str) -> bool:
    """Tell whether the server has a database of this name."""
    found = session.execute("SELECT FROM pg_catalog.pg_database WHERE datname = %s", (database,))
    return found.fetchone() is not None


def number(session: psycopg.Connection[Any], database: str) -> int:
    """The object id of a database.

    Raises:
        Refused: There is no such database.
    """
    row = session.execute(
        "SELECT oid::bigint FROM pg_catalog.pg_database WHERE datname = %s", (database,)
    ).fetchone()
    if row is None:
        raise Refused(f"There is no database {database!r}.", hint="`psql -l` lists them.")
    return int(row[0])


def is_empty(address: PostgresAddress, database: str) -> bool:
    """Tell whether a database is as it was created: nobody has made anything in it."""
    with connection.connect(address, database) as session:
        return session.execute(_MADE).fetchone() is None


def set_comment(database: str, text: str | None) -> Composed:
    """The statement that puts a comment on a database, or takes it off."""
    return SQL("COMMENT ON DATABASE {} IS {}").format(Identifier(database), Literal(text))


def rename(old: str, new: str) -> Composed:
    """The statement that renames a database."""
    return SQL("ALTER DATABASE {} RENAME TO {}").format(Identifier(old), Identifier(new))


def drop(session: psycopg.Connection[Any], address: PostgresAddress, database: str) -> None:
    """Drop a database and what it is subscribed to, and end its sessions.

    Raises:
        Refused: It still receives by a subscription.
    """
    subscriptions.release(session, address, database)
    session.execute(SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(Identifier(database)))


def close(session: psycopg.Connection[Any], database: str) -> None:
    """Let nobody in any more and end who is in.

    Raises:
        Refused: The role may not.
    """
    try:
        session.execute(
            SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(Identifier(database))
        )
        session.execute(
            "SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity"
            " WHERE datname = %s AND pid <> pg_backend_pid()",
            (database,),
        )
    except psycopg.errors.InsufficientPrivilege as error:
        open_again(session, database)
        raise Refused(
            f"The role {session.info.user} may not end the sessions of {database!r}.",
            hint=f"GRANT pg_signal_backend TO {session.info.user}; and be the database's owner.",
        ) from error


def open_again(session: psycopg.Connection[Any], database: str) -> None:
    """Let sessions in again."""
    session.execute(allow_connections(database))


def allow_connections(database: str) -> Composed:
    """The statement that lets sessions in again; it may stand in the transaction of a swap."""
    return SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(Identifier(database))


def swap(
    session: psycopg.Connection[Any], live: str | None, statements: Sequence[Composed]
) -> None:
    """Run renames in one transaction, with the live database closed; open it again on failure.

    Raises:
        Unavailable: Sessions kept the database busy; names are as before.
        Refused: The role may not.
    """
    for attempt in range(CLOSE_TRIES):
        if live is not None:
            close(session, live)
            reached("close-live")
        try:
            with session.transaction():
                session.execute("SET LOCAL lock_timeout = '10s'")
                for statement in statements:
                    session.execute(statement)
            return
        except psycopg.errors.ObjectInUse:
            time.sleep(0.2 * (attempt + 1))  # an ended session takes a moment to be gone
        except psycopg.Error:
            if live is not None:
                open_again(session, live)
            raise
    if live is not None:
        open_again(session, live)
    raise Unavailable(
        f"Sessions kept {live!r} busy; its name is as before.",
        hint="Stop the applications that use it, then apply the same plan again.",
    )


def apply_settings(
    session: psycopg.Connection[Any], database: str, settings: tuple[str, ...]
) -> None:
    """Give a database the `ALTER DATABASE ... SET` values of the original."""
    for setting in settings:
        session.execute(SQL("ALTER DATABASE {} ").format(Identifier(database)) + assign(setting))


def assign(setting: str) -> Composed:
    """`SET name TO value` for a setting as the catalogue holds it, `name=value`."""
    name, _, value = setting.partition("=")
    is_list = name in _LIST_SETTINGS and _LIST_VALUE.fullmatch(value)
    shown: Composable = SQL(value) if is_list else Literal(value)
    return SQL("SET {} TO {}").format(Identifier(*name.split(".")), shown)
