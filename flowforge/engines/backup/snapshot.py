"""One frozen view of a database that several sessions share.

The coordinator takes the lock that keeps a second backup of the same database away, exports its
snapshot, and stays until everything that reads in it is done. If it dies, the snapshot cannot be
entered any more and the backup stops before it commits.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import psycopg
from psycopg.sql import SQL, Identifier

from flowforge.engines.backup import definitions, survey
from flowforge.engines.backup.identifiers import canonical
from flowforge.engines.backup.steps import reached
from flowforge.engines.postgres import connection
from flowforge.errors import Busy, Unavailable
from flowforge.rules.addresses import PostgresAddress

_TRY_LOCK = "SELECT pg_try_advisory_lock(hashtextextended('flowforge.backup', 0))"
_TABLES = """
SELECT n.nspname, c.relname FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind = 'r' AND n.nspname !~ '^pg_(toast|temp|catalog)'
   AND n.nspname <> 'information_schema'
   AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
                    WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid
                      AND d.deptype = 'e')
 ORDER BY c.relpages, 1, 2
"""


@dataclass
class Snapshot:
    """A held snapshot and what was seen in it."""

    token: str
    """The name by which other sessions enter it."""

    taken_at: datetime
    """When it was taken, by the server's clock."""

    survey: survey.Survey
    definitions: dict[str, str]
    session: psycopg.Connection[Any]
    counts: dict[str, int] = field(default_factory=dict)
    """Rows the source counted, by canonical table name; grows while `counting` runs."""

    def check_held(self) -> None:
        """Make sure the snapshot was held all the time.

        Raises:
            Unavailable: The coordinating session is gone.
        """
        try:
            self.session.execute("SELECT 1")
        except psycopg.OperationalError as error:
            raise Unavailable(
                "The session that held the backup's snapshot was ended.",
                hint="Run the backup again. Nothing was kept of this try.",
            ) from error


@contextlib.contextmanager
def hold_snapshot(address: PostgresAddress, database: str) -> Iterator[Snapshot]:
    """Take the backup lock and a snapshot of a database, and hold both.

    Raises:
        Busy: Another backup of this database is running.
        Refused: Something in it could not be read whole.
        Unavailable: The server does not answer.
    """
    with (
        connection.explained(address, database),
        connection.connect(address, database) as session,
    ):
        held = session.execute(_TRY_LOCK).fetchone()
        if not (held and held[0]):
            raise Busy(
                f"Another backup of {database!r} on {address.name} is running.",
                hint="Nothing to do: the running one wins, and the next one is scheduled.",
            )
        reached("lock")
        session.execute("SET idle_in_transaction_session_timeout = 0")
        session.execute("SET row_security = off")
        session.execute("SET lock_timeout = '30s'")
        seen = survey.survey(session, address.name)
        session.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        row = session.execute("SELECT pg_export_snapshot(), clock_timestamp()").fetchone()
        assert row is not None
        reached("snapshot")
        inventory = definitions.read_definitions(session)
        yield Snapshot(row[0], row[1], seen, inventory, session)


@contextlib.contextmanager
def counting(snapshot: Snapshot, budget_seconds: float) -> Iterator[None]:
    """Let the source count its own rows in the snapshot while the block runs.

    Small tables come first. When the budget is spent the rest stays uncounted; the block's end
    waits for no more than that.
    """
    deadline = time.monotonic() + budget_seconds
    counter = threading.Thread(target=_count, args=(snapshot, deadline), daemon=True)
    counter.start()
    try:
        yield
        counter.join()
    except BaseException:
        with contextlib.suppress(psycopg.Error):
            snapshot.session.cancel_safe(timeout=5)
        counter.join(timeout=10)
        raise


def _count(snapshot: Snapshot, deadline: float) -> None:
    session = snapshot.session
    try:
        tables = session.execute(_TABLES).fetchall()
        for schema, table in tables:
            left = deadline - time.monotonic()
            if left <= 0:
                return
            session.execute("SAVEPOINT count")
            session.execute(f"SET LOCAL statement_timeout = {max(1, int(left * 1000))}")
            query = SQL("SELECT count(*) FROM ONLY {}").format(Identifier(schema, table))
            try:
                row = session.execute(query).fetchone()
            except psycopg.errors.QueryCanceled:
                session.execute("ROLLBACK TO SAVEPOINT count")
                return
            session.execute("ROLLBACK TO SAVEPOINT count")
            assert row is not None
            snapshot.counts[canonical(schema, table)] = row[0]
    except psycopg.OperationalError:
        return  # the session is gone; `check_held` says so before anything is committed
