"""Enter a PostgreSQL server, and say clearly why one could not.

Passwords go through libpq's parameters or the environment of a child, never through a command line.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping

import psycopg
from psycopg.adapt import Loader
from psycopg.sql import SQL, Literal

from flowforge.errors import FlowForgeError, Refused, Unavailable
from flowforge.rules.addresses import PostgresAddress

CONNECT_TIMEOUT_SECONDS = 15
_ENVIRONMENT_OF_OPTION = {
    "sslmode": "PGSSLMODE",
    "sslrootcert": "PGSSLROOTCERT",
    "sslcert": "PGSSLCERT",
    "sslkey": "PGSSLKEY",
    "sslcrl": "PGSSLCRL",
    "channel_binding": "PGCHANNELBINDING",
    "gssencmode": "PGGSSENCMODE",
    "target_session_attrs": "PGTARGETSESSIONATTRS",
}
# Whatever a role or a database is given: the driver reads times in no other style, and definitions
# are compared as text.
_SETTINGS = {
    "statement_timeout": "0",
    "timezone": "UTC",
    "datestyle": "ISO",
    "intervalstyle": "postgres",
    "quote_all_identifiers": "off",
    "standard_conforming_strings": "on",
    "search_path": "",
}
_PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "SYSTEMROOT")


class _LenientText(Loader):
    """Names in an SQL_ASCII database may be any bytes; show what is not UTF-8 as escapes."""

    def load(self, data: bytes | bytearray | memoryview) -> str:
        return bytes(data).decode("utf-8", "backslashreplace")


def connect(
    address: PostgresAddress,
    database: str | None = None,
    *,
    settings: Mapping[str, str] | None = None,
) -> psycopg.Connection:
    """Open a session in autocommit mode: UTC, ISO dates, no time limit, an empty search path.

    Args:
        address: The server.
        database: The database to enter; by default the address's own.
        settings: Run-time settings to start the session with, beside those.

    Raises:
        Refused: The server said no: password, database, rights or certificate.
        Unavailable: Nobody answered, or the server is not ready yet.
    """
    database = database or address.database
    options = dict(address.options)
    options.setdefault("connect_timeout", str(CONNECT_TIMEOUT_SECONDS))
    options.setdefault("application_name", "flowforge")
    try:
        session = psycopg.connect(
            host=address.host,
            port=address.port,
            user=address.user,
            password=address.password.get_secret_value() or None,
            dbname=database,
            client_encoding="UTF8",
            autocommit=True,
            **options,  # type: ignore[arg-type]  # libpq options are all text
        )
    except psycopg.OperationalError as error:
        raise explain(error, address, database) from error
    for kind in ("text", "name", "varchar"):
        session.adapters.register_loader(kind, _LenientText)
    wanted = (_SETTINGS | dict(settings or {})).items()
    set_ = [SQL("set_config({}, {}, false)").format(Literal(n), Literal(v)) for n, v in wanted]
    session.execute(SQL("SELECT {}").format(SQL(", ").join(set_)))
    return session


def client_environment(
    address: PostgresAddress, database: str, settings: Mapping[str, str] | None = None
) -> dict[str, str]:
    """The environment in which `pg_dump` or `psql` enters a server without any argument.

    Args:
        address: The server.
        database: The database to enter.
        settings: Run-time settings its session starts with.
    """
    environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    environment |= {
        "PGHOST": address.host,
        "PGPORT": str(address.port),
        "PGUSER": address.user,
        "PGDATABASE": database,
        "PGCONNECT_TIMEOUT": address.options.get("connect_timeout", str(CONNECT_TIMEOUT_SECONDS)),
        "PGAPPNAME": "flowforge",
    }
    if password := address.password.get_secret_value():
        environment["PGPASSWORD"] = password
    for option, variable in _ENVIRONMENT_OF_OPTION.items():
        if option in address.options:
            environment[variable] = address.options[option]
    switches = [address.options["options"]] if "options" in address.options else []
    switches += [f"-c {name}={_escape(value)}" for name, value in (settings or {}).items()]
    if switches:
        environment["PGOPTIONS"] = " ".join(switches)
    return environment


@contextlib.contextmanager
def explained(address: PostgresAddress, database: str | None = None) -> Iterator[None]:
    """Turn what a server refuses or no longer answers inside the block into the three kinds."""
    try:
        yield
    except (psycopg.OperationalError, psycopg.errors.InsufficientPrivilege) as error:
        raise explain(error, address, database) from error


def explain(
    error: psycopg.Error, address: PostgresAddress, database: str | None = None
) -> FlowForgeError:
    """Turn a driver's error into one of the three kinds, with what to do about it."""
    said = str(error).strip()
    text = said.lower()
    place = f"{address.name} ({address.where})"
    again = f"Save the right URL with `flowforge database add {address.name}`."
    if error.sqlstate in ("28P01", "28000") or "authentication failed" in text:
        return Refused(f"{place} refused the password or role.", hint=again)
    if error.sqlstate == "3D000" or ("database" in text and "does not exist" in text):
        return Refused(
            f"{place} has no database {database!r}.", hint="Check the name; `psql -l` lists them."
        )
    if is_conflict(said):
        return ended_by_conflict(address.name)
    if error.sqlstate == "42501" or "permission denied" in text:
        return Refused(
            f"{place} denied a right: {_first_line(said)}",
            hint=f"Grant it, for example: GRANT pg_read_all_data TO {address.user};",
        )
    if "certificate" in text or "ssl" in text:
        return Refused(
            f"{place} could not be entered safely: {_first_line(said)}",
            hint="Name the right sslrootcert or host in the URL; do not lower sslmode.",
        )
    return Unavailable(
        f"{place} did not answer: {_first_line(said)}",
        hint="Check that the server runs and is reachable from this machine, then run it again.",
    )


def is_conflict(said: str) -> bool:
    """Tell whether a standby ended a query because its primary removed the rows it reads."""
    return "conflict with recovery" in said.lower()


def ended_by_conflict(name: str) -> Unavailable:
    """What to do about it."""
    return Unavailable(
        f"The standby {name} ended the reading: its primary removed rows that were being read.",
        hint="On the standby set hot_standby_feedback = on (the primary then keeps such rows), or "
        "max_standby_streaming_delay longer than a backup takes; or back up the primary. Then "
        "run it again.",
    )


def _first_line(text: str) -> str:
    return text.splitlines()[0][:300] if text else "no reason given"


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace(" ", "\\ ")
