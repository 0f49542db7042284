"""Reach the ledger, and say in plain words why it could not be reached.

Every error of the driver is turned into one of the three kinds here, at the edge. The driver's
text is cut to its first line; the URL, and with it the password, is never part of a message.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from flowforge.errors import Damaged, FlowForgeError, Refused, Unavailable
from flowforge.rules import addresses

CONNECT_TIMEOUT_SECONDS = 5
SESSION = (
    "-c timezone=UTC -c statement_timeout=15000 -c lock_timeout=10000 "
    "-c idle_in_transaction_session_timeout=60000"
)
_UPGRADE = "Run `python -m flowforge.ledger upgrade` with FLOWFORGE_LEDGER_URL set to an owner."


def connect(url: str, *, pooled: bool = True) -> sa.Engine:
    """Prepare access to the ledger; the first connection is made by the first question.

    Args:
        url: `postgresql://...` or a SQLAlchemy spelling such as `postgresql+asyncpg://...`.
        pooled: Whether connections are kept for the next question.

    Raises:
        Refused: It is not the URL of one PostgreSQL database.
    """
    arguments = {
        "connect_timeout": CONNECT_TIMEOUT_SECONDS,
        "application_name": "flowforge-ledger",
        "options": SESSION,
    }
    if not pooled:
        return sa.create_engine(
            engine_url(url), connect_args=arguments, hide_parameters=True, poolclass=NullPool
        )
    return sa.create_engine(
        engine_url(url),
        connect_args=arguments,
        hide_parameters=True,
        pool_pre_ping=True,
        pool_size=2,
        max_overflow=3,
        pool_timeout=10,
        pool_recycle=1800,
    )


def engine_url(url: str) -> sa.URL:
    """Spell a PostgreSQL URL for SQLAlchemy with psycopg.

    Raises:
        Refused: It is not the URL of one PostgreSQL database.
    """
    address = addresses.parse_postgres_url(url, name="ledger")
    is_socket = address.host.startswith("/")
    query = dict(address.options)
    query.pop("options", None)  # the ledger's own session settings take this place
    if is_socket:
        query["host"] = address.host
    return sa.URL.create(
        "postgresql+psycopg",
        username=address.user,
        password=address.password.get_secret_value() or None,
        host=None if is_socket else address.host,
        port=address.port,
        database=address.database,
        query=query,
    )


@contextlib.contextmanager
def transaction(engine: sa.Engine) -> Iterator[sa.Connection]:
    """One transaction on the ledger, with its errors in our words.

    Raises:
        Unavailable: The ledger did not answer; the transaction may be tried again.
        Refused: It answered no: password, rights, missing tables.
        Damaged: It did not understand; the transaction changed nothing.
    """
    try:
        with engine.begin() as connection:
            yield connection
    except sa.exc.TimeoutError as error:
        raise Unavailable(
            "The ledger's connections are all busy.", hint="Wait a moment and try again."
        ) from error
    except sa.exc.DBAPIError as error:
        raise explain(error.orig, engine.url) from error


def explain(error: BaseException | None, url: sa.URL) -> FlowForgeError:
    """Turn the driver's error into one of the three kinds."""
    place = f"The ledger ({_where(url)})"
    code = getattr(error, "sqlstate", None)
    lines = str(error).strip().splitlines()
    said = lines[0][:300] if lines else "no reason given"
    if code in ("28P01", "28000") or "authentication failed" in str(error):
        return Refused(
            f"{place} refused the password or role.", hint="Correct FLOWFORGE_LEDGER_URL."
        )
    if code == "3D000" or ("database" in said and "does not exist" in said):
        return Refused(
            f"{place} does not exist.",
            hint="Create that database, or correct FLOWFORGE_LEDGER_URL.",
        )
    if code in ("42P01", "3F000", "42703"):
        return Refused(f"{place} lacks its tables, or has older ones.", hint=_UPGRADE)
    if code == "42501":
        return Refused(
            f"{place} denied a right: {said}",
            hint="Grant the role USAGE on schema flowforge and SELECT, INSERT, UPDATE, DELETE on "
            "its tables.",
        )
    if code is not None and code[:2] in ("22", "23", "42"):
        # What it says may repeat a value, and a value may be a secret.
        return Damaged(
            f"{place} could not make sense of a statement (SQLSTATE {code}).",
            hint="Report this: it is a fault of FlowForge, and trying again does not help.",
        )
    return Unavailable(
        f"{place} did not answer: {said}",
        hint="Check that PostgreSQL runs and is reachable from this machine, then try again.",
    )


def _where(url: sa.URL) -> str:
    host = url.host or url.query.get("host", "")
    return f"{url.username}@{host}:{url.port}/{url.database}"
