"""Load a copy into a new database, made as the original was."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg.sql import SQL, Composable, Composed, Identifier, Literal

from flowforge.engines.backup.loading import parallel, reading
from flowforge.engines.backup.loading.destination import Destination
from flowforge.engines.backup.loading.psql import LoadFailed as LoadFailed
from flowforge.engines.backup.stores.store import Store
from flowforge.engines.postgres.installations import Installation
from flowforge.errors import Refused
from flowforge.rules.addresses import PostgresAddress
from flowforge.rules.backups import DatabaseFacts, Manifest

CONNECTIONS = 2


def create_database(
    session: psycopg.Connection[Any],
    name: str,
    facts: DatabaseFacts,
    *,
    major: int,
    owner: str | None = None,
    any_locale: bool = False,
) -> list[str]:
    """Create an empty database like the original, and return remarks on what is unlike it.

    Args:
        session: An autocommit session on the server.
        name: What it will be called.
        facts: The original.
        major: The server's major version.
        owner: Its owner, when it is not the session's role.
        any_locale: Fall back to locale C where the original's is not installed.

    Raises:
        Refused: The role may not create databases, or the locale is not installed.
    """
    head = SQL("CREATE DATABASE {} TEMPLATE template0 ENCODING {}").format(
        Identifier(name), Literal(facts.encoding)
    )
    if owner is not None:
        head += SQL(" OWNER {}").format(Identifier(owner))
    try:
        session.execute(head + _locale(facts, major))
        return []
    except psycopg.errors.DuplicateDatabase as error:
        raise Refused(f"{name!r} exists already.", hint="Choose another name.") from error
    except psycopg.errors.InsufficientPrivilege as error:
        raise Refused(
            f"The role {session.info.user} may not create databases.",
            hint=f"ALTER ROLE {session.info.user} CREATEDB;",
        ) from error
    except psycopg.Error as error:
        if not any_locale:
            raise Refused(
                f"The server has no locale {facts.icu_locale or facts.collate!r}: {_first(error)}",
                hint="Install it on the server's machine, or restore to a server that has it.",
            ) from error
    session.execute(head + SQL(" LC_COLLATE 'C' LC_CTYPE 'C'"))
    locale = facts.icu_locale or facts.collate
    return [f"locale {locale} is not installed there: restored with C, sort order is not proven"]


def load(
    store: Store,
    manifest: Manifest,
    installation: Installation,
    address: PostgresAddress,
    database: str,
    *,
    connections: int = CONNECTIONS,
    on_progress: parallel.OnProgress = lambda *_: None,
) -> None:
    """Load a copy into an empty database.

    Args:
        store: Where the copy is.
        manifest: Its manifest.
        installation: The programs that fit the server.
        address: The server.
        database: The database.
        connections: How many sessions load a copy that is made of members.
        on_progress: Told the stored bytes done, those in all, and the table just loaded.

    Raises:
        LoadFailed: The server refused something in it.
        Damaged: The copy is damaged.
        Unavailable: The server went away.
    """
    reading.check_unheld(store, manifest)
    target = Destination(manifest, installation, address, database)
    if not manifest.data.members:
        target.run(reading.text_of(store, manifest))
        return
    parallel.load(store, target, connections=connections, on_progress=on_progress)


def role_exists(session: psycopg.Connection[Any], role: str) -> bool:
    """Tell whether a server knows a role."""
    found = session.execute("SELECT FROM pg_catalog.pg_roles WHERE rolname = %s", (role,))
    return found.fetchone() is not None


def _locale(facts: DatabaseFacts, major: int) -> Composable:
    libc = SQL(" LC_COLLATE {} LC_CTYPE {}").format(Literal(facts.collate), Literal(facts.ctype))
    if facts.locale_provider == "libc" or major < 15:
        return libc
    if facts.locale_provider == "icu":
        named = SQL(" LOCALE_PROVIDER icu ICU_LOCALE {}").format(Literal(facts.icu_locale or "und"))
    else:
        named = SQL(" LOCALE_PROVIDER builtin BUILTIN_LOCALE {}").format(
            Literal(facts.icu_locale or "C")
        )
    return Composed([named, libc])


def _first(error: psycopg.Error) -> str:
    return str(error).splitlines()[0][:200]
