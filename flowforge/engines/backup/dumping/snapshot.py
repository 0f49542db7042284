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

from flowforge.engines.backup.dumping import definitions, fence, survey, tablelocks
from flowforge.engines.backup.dumping.pgdump import timeouts
from flowforge.engines.backup.dumping.relations import Relation, list_relations
from flowforge.engines.backup.steps import reached
from flowforge.engines.postgres import connection
from flowforge.errors import Unavailable
from flowforge.rules.addresses import PostgresAddress

_LARGE_OBJECTS = "SELECT EXISTS (SELECT FROM pg_catalog.pg_largeobject_metadata)"
_TRIES = 5
_WATCH_SECONDS = 2.0
_COUNT_SHARE = 0.1
"""As much of the time may the source count: it serves others, and the dump, first."""

_COUNT_FREE_SECONDS = 0.25  # enough for all of a small database
_COUNT_BYTES_PER_SECOND = 1e9


@dataclass
class Snapshot:
    """A held snapshot and what was seen in it."""

    token: str
    """The name by which other sessions enter it."""

    taken_at: datetime
    """When it was taken, by the server's clock."""

    survey: survey.Survey
    definitions: dict[str, str]
    relations: tuple[Relation, ...]
    """The tables whose rows belong into a copy; nobody can change their form meanwhile."""

    has_large_objects: bool
    session: psycopg.Connection[Any]
    counts: dict[str, int] = field(default_factory=dict)
    """Rows the source counted, by canonical table name; grows while `counting` runs."""

    lost: threading.Event = field(default_factory=threading.Event)
    """Set within seconds when the session ends while `counting` runs."""

    cause: psycopg.Error | None = None
    """What ended it, once `lost` is set."""

    def check_held(self) -> None:
        """Make sure the snapshot was held all the time.

        Raises:
            Unavailable: The coordinating session is gone.
        """
        self.check_not_lost()
        try:
            self.session.execute("SELECT 1")
        except psycopg.OperationalError as error:
            raise self._ended(error) from error

    def check_not_lost(self) -> None:
        """Stop as soon as it is known that the session has ended; this costs nothing.

        Raises:
            Unavailable: The coordinating session is gone.
        """
        if self.lost.is_set():
            raise self._ended(self.cause) from self.cause

    def _ended(self, cause: psycopg.Error | None) -> Unavailable:
        if connection.is_conflict(str(cause)):
            return connection.ended_by_conflict(self.survey.server.name)
        return Unavailable(
            "The session that held the backup's snapshot was ended.",
            hint="Look whether that server is up and who ended its sessions, then run the backup "
            "again. Nothing was kept of this try.",
        )


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
        fence.take(session, address, database)
        reached("lock")
        for name in timeouts(session.info.server_version // 10_000):
            session.execute(f"SET {name} = 0".encode())
        session.execute(f"SET lock_timeout = '{tablelocks.WAIT_SECONDS:.0f}s'".encode())
        session.execute("SET row_security = off")
        seen = survey.survey(session, address.name)
        yield _take(session, seen)


def _take(session: psycopg.Connection[Any], seen: survey.Survey) -> Snapshot:
    """Take a snapshot in which no table was changed before it could be locked."""

    def listed() -> list[Relation]:
        with tablelocks.explained():
            found = list_relations(session)
        # A replica has no rows of unlogged tables to read.
        return [table for table in found if not (table.unlogged and seen.server.is_replica)]

    for _ in range(_TRIES):
        held = listed()
        session.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        try:
            tablelocks.hold(session, held)
            reached("table-locks")
            row = session.execute("SELECT pg_export_snapshot(), clock_timestamp()").fetchone()
            reached("snapshot")
            tables = listed()
            tablelocks.hold_new(session, held, tables)
        except tablelocks.Changed:
            session.execute("ROLLBACK")
            continue
        objects = session.execute(_LARGE_OBJECTS).fetchone()
        assert row is not None
        assert objects is not None
        inventory = definitions.read_definitions(session)
        return Snapshot(row[0], row[1], seen, inventory, tuple(tables), objects[0], session)
    raise Unavailable(
        f"Tables of {seen.database.name!r} were changed each time they were to be read.",
        hint="A migration is running; run the backup again when it is done.",
    )


@contextlib.contextmanager
def counting(snapshot: Snapshot, budget_seconds: float) -> Iterator[None]:
    """Let the source count its own rows in the snapshot while the block runs.

    Small tables come first, and about a tenth of the time is spent on it. What the budget or the
    block's end leaves stays uncounted. Meanwhile and afterwards the session is watched.
    """
    over = threading.Event()

    def work() -> None:
        try:
            _count(snapshot, budget_seconds, over)
            while not over.wait(_WATCH_SECONDS):
                snapshot.session.execute("SELECT 1")
        except psycopg.OperationalError as error:
            snapshot.cause = error
            snapshot.lost.set()

    counter = threading.Thread(target=work, daemon=True)
    counter.start()
    try:
        yield
        over.set()
        counter.join()
    except BaseException:
        over.set()
        with contextlib.suppress(psycopg.Error):
            snapshot.session.cancel_safe(timeout=5)
        counter.join(timeout=10)
        raise


def _count(snapshot: Snapshot, budget_seconds: float, over: threading.Event) -> None:
    session, began, spent = snapshot.session, time.monotonic(), 0.0
    session.execute("SET LOCAL max_parallel_workers_per_gather = 0")
    for relation in reversed(snapshot.relations):
        expected = relation.size_bytes / _COUNT_BYTES_PER_SECOND
        wanted = spent + expected
        while wanted > max(_COUNT_FREE_SECONDS, _COUNT_SHARE * (time.monotonic() - began)):
            if over.wait(min(_WATCH_SECONDS, wanted / _COUNT_SHARE)):
                return
            session.execute("SELECT 1")
        started, left = time.monotonic(), budget_seconds - spent
        if left <= 0 or not _count_one(snapshot, relation, left):
            return
        spent += time.monotonic() - started


def _count_one(snapshot: Snapshot, relation: Relation, seconds: float) -> bool:
    """Count a table, or tell that the time was too short."""
    session = snapshot.session
    session.execute("SAVEPOINT count")
    session.execute(f"SET LOCAL statement_timeout = {max(1, int(seconds * 1000))}")
    query = f"SELECT count(*) FROM ONLY {relation.quoted}{_condition(relation)}"
    try:
        row = session.execute(query.encode()).fetchone()
    except psycopg.errors.QueryCanceled:
        session.execute("ROLLBACK TO SAVEPOINT count")
        return False
    session.execute("ROLLBACK TO SAVEPOINT count")
    assert row is not None
    snapshot.counts[relation.name] = row[0]
    return True


def _condition(relation: Relation) -> str:
    return f" {relation.condition}" if relation.condition else ""
