"""Bring the ledger's tables to this version, once, however many processes start together.

Everything happens in one transaction under an advisory lock. A ledger that is up to date is only
read, so a process whose role may not change tables can start with one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

from flowforge.errors import Refused
from flowforge.ledger.connection import connect, transaction
from flowforge.ledger.tables import SCHEMA

if TYPE_CHECKING:
    from alembic.config import Config

_LOCK = 0x666F726765  # "forge": one number for all FlowForge processes
_SCRIPTS = Path(__file__).parent / "migrations"


def migrate(url: str) -> str:
    """Bring the tables to this version and name it.

    Args:
        url: The ledger, entered by a role that may create a schema when there is something to do.

    Raises:
        Unavailable: The ledger did not answer.
        Refused: The role lacks a right, or a newer FlowForge has been here.
    """
    from alembic import command

    with _engine(url) as engine, transaction(engine) as connection:
        wanted, found = _head(), _read(connection)
        if found == wanted:
            return wanted
        connection.execute(sa.text("SET LOCAL statement_timeout = 0"))
        connection.execute(sa.text("SET LOCAL lock_timeout = '120s'"))
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
        found = _read(connection)
        if found is not None and found not in _known():
            raise Refused(
                f"The ledger has version {found}, which this FlowForge does not know.",
                hint="Upgrade FlowForge; a newer one has already changed these tables.",
            )
        if found != wanted:
            connection.execute(sa.text(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}"))
            command.upgrade(_config(connection), "head")
        return wanted


def current(url: str) -> str | None:
    """Name the version of the tables; `None` when there are none.

    Raises:
        Unavailable: The ledger did not answer.
    """
    with _engine(url) as engine, transaction(engine) as connection:
        return _read(connection)


@contextlib.contextmanager
def _engine(url: str) -> Iterator[sa.Engine]:
    engine = connect(url, pooled=False)
    try:
        yield engine
    finally:
        engine.dispose()


def _read(connection: sa.Connection) -> str | None:
    table = sa.table("alembic_version", sa.column("version_num"), schema=SCHEMA)
    if not sa.inspect(connection).has_table("alembic_version", schema=SCHEMA):
        return None
    return connection.execute(sa.select(table.c.version_num)).scalar_one_or_none()


def _known() -> set[str]:
    from alembic.script import ScriptDirectory

    return {script.revision for script in ScriptDirectory(str(_SCRIPTS)).walk_revisions()}


def _head() -> str:
    from alembic.script import ScriptDirectory

    head = ScriptDirectory(str(_SCRIPTS)).get_current_head()
    assert head is not None
    return head


def _config(connection: sa.Connection) -> Config:
    from alembic.config import Config

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(_SCRIPTS))
    return config
