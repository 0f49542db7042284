"""Load a copy into a new database: made as the original was, filled by `psql`.

`psql` runs what the dump wrote, in its order, and stops at the first error. A stream that breaks
off looks to `psql` like the end of its input, so a load counts only when both ends say it was
whole.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
from typing import Any

import psycopg
from psycopg.sql import SQL, Composable, Composed, Identifier, Literal

from flowforge.engines.backup import pgdump, reading
from flowforge.engines.backup.store import Store
from flowforge.engines.postgres import connection
from flowforge.engines.postgres.installations import Installation
from flowforge.errors import Damaged, Refused, Unavailable
from flowforge.rules.addresses import PostgresAddress
from flowforge.rules.backups import DatabaseFacts, Manifest

_ERROR = re.compile(r"^(?:psql:<stdin>:\d+: )?(?:ERROR|FATAL): +(.*)$", re.MULTILINE)
_MISSING = (
    (re.compile(r'extension "([^"]+)" is not available|could not open extension control file'),
     "an extension is not installed there"),
    (re.compile(r"could not access file|could not load lib"), "a library is not installed there"),
    (re.compile(r"collation .* does not exist|invalid locale|could not create locale|ICU is not"),
     "a locale is not installed there"),
    (re.compile(r"unrecognized configuration parameter"), "a setting is unknown there"),
    (re.compile(r'role "([^"]+)" does not exist'), "a role does not exist there"),
)  # fmt: skip
_BULK_LOAD = {"synchronous_commit": "off", "statement_timeout": "0", "lock_timeout": "0"}


class LoadFailed(Damaged):
    """The copy did not load. `missing` says what the server lacks, when that is the reason."""

    missing: str | None = None


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
) -> None:
    """Run a copy's text in an empty database.

    Raises:
        LoadFailed: The server refused something in it, or the copy is damaged.
        Unavailable: The server went away.
    """
    settings = _BULK_LOAD | {"lc_monetary": manifest.database.lc_monetary}
    process = subprocess.Popen(
        [installation.program("psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", "--no-password"],
        env=connection.client_environment(address, database, settings),
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    assert process.stdin is not None and process.stderr is not None
    words = pgdump.Words(process.stderr)
    try:
        for text in reading.text_of(store, manifest):
            process.stdin.write(text)
    except BrokenPipeError:
        pass  # psql stopped at an error; its words say which
    except BaseException:
        process.kill()
        raise
    finally:
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        status = process.wait()
        said = words.finish()
    if status != 0:
        raise _explain(said, status, manifest, address)


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


def _explain(
    said: str, status: int, manifest: Manifest, address: PostgresAddress
) -> LoadFailed | Unavailable:
    found = _ERROR.search(said)
    first = found[1][:300] if found else f"psql ended with status {status}"
    if status == 2 or "server closed the connection" in said:
        return Unavailable(
            f"{address.name} went away while {manifest.name} was loaded: {first}",
            hint="Check that server's disk and memory, then run it again.",
        )
    failure = LoadFailed(
        f"{manifest.name} does not load: {first}",
        hint="Read which object it names; an extension, role or locale may be missing there.",
    )
    failure.missing = next((why for sign, why in _MISSING if sign.search(said)), None)
    return failure


def _first(error: psycopg.Error) -> str:
    return str(error).splitlines()[0][:200]
