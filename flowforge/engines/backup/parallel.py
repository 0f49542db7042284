"""Load a copy of several members: definitions, rows side by side, then what needs the rows.

One reader goes through the object from its beginning to its end, so a sealed copy or a slow store
is read once; the members it meets are dealt to sessions that load side by side. Indexes are built
by the same number of sessions, each on a table of its own.
"""

from __future__ import annotations

import queue
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import psycopg

from flowforge.engines.backup import feeding, psql, reading, statements
from flowforge.engines.backup.feeding import Lane
from flowforge.engines.backup.statements import Statement
from flowforge.engines.backup.steps import reached
from flowforge.engines.backup.store import Store
from flowforge.engines.backup.survey import python_codec
from flowforge.engines.postgres import connection
from flowforge.engines.postgres.installations import Installation
from flowforge.errors import Unavailable
from flowforge.rules.addresses import PostgresAddress
from flowforge.rules.backups import Manifest, Member

INDEX_MEMORY = "256MB"

Wanted = Callable[[Member], bool]
OnProgress = Callable[[int, int, str | None], None]
"""Told the stored bytes done, those in all, and the table just loaded."""


@dataclass(frozen=True)
class Target:
    """The empty database a copy is loaded into."""

    manifest: Manifest
    installation: Installation
    address: PostgresAddress
    database: str

    def run(self, texts: Iterator[bytes]) -> None:
        """Run a text with `psql`."""
        psql.run(texts, self.manifest, self.installation, self.address, self.database)

    def enter(self) -> psycopg.Connection[Any]:
        """Open a session set up as the head of a dump does."""
        session = connection.connect(self.address, self.database)
        settings = {**psql.bulk_settings(self.manifest), "maintenance_work_mem": INDEX_MEMORY}
        settings["client_encoding"] = self.manifest.database.encoding
        feeding.prepare(session, settings)
        return session

    def is_most(self, table: str | None) -> bool:
        """Whether one table is more than half of all: its indexes are worth several processes."""
        sizes = {facts.name: facts.raw_bytes for facts in self.manifest.tables}
        return sizes.get(table or "", 0) > sum(sizes.values()) / 2

    def codec(self) -> str:
        """Python's name of the copy's encoding."""
        with connection.connect(self.address, self.database) as session:
            return python_codec(session, self.manifest.database.encoding)


def load(
    store: Store,
    target: Target,
    *,
    connections: int,
    on_progress: OnProgress = lambda *_: None,
    wanted: Wanted = lambda _: True,
) -> list[Statement]:
    """Load definitions and rows; return the statements that come after the rows.

    Args:
        store: Where the copy is.
        target: Where it goes.
        connections: How many sessions load rows.
        on_progress: Told after every member.
        wanted: Which of its members are loaded; asked as they come.

    Raises:
        LoadFailed: The server refused something in it.
        Damaged: The copy is not the one the manifest was written for.
        Unavailable: The server or the store went away.
    """
    manifest, codec = target.manifest, target.codec()
    lanes: list[Lane] = []
    guard, done, after = threading.Lock(), 0, b""

    def loaded(member: Member) -> None:
        nonlocal done
        with guard:
            done += member.size_bytes
            on_progress(done, manifest.data.size_bytes, member.table)

    try:
        for member, packed in reading.packed_members(store, manifest):
            if not wanted(member):
                _skip(packed)
            elif member.kind == "rows":
                if not lanes:
                    lanes += [
                        Lane(f"load-{n}", target.enter, codec, loaded) for n in range(connections)
                    ]
                    dealer = feeding.Dealer(lanes, manifest.parts)
                dealer.deal(member, packed)
            else:
                _finish(lanes)
                after += _run(target, member, packed)
                loaded(member)
        _finish(lanes)
    except BaseException as error:
        for lane in lanes:
            lane.stop()
        raise _explained(error, manifest) from error
    return statements.split(after, codec)


def _run(target: Target, member: Member, packed: Iterator[bytes]) -> bytes:
    """Run a part that is SQL, or return it when its turn comes later."""
    manifest = target.manifest
    text = reading.member_text(manifest, member, reading.checked(manifest, member, packed))
    if member.kind == "after-data":
        return b"".join(text)
    target.run(text)
    reached("pre" if member.kind == "before-data" else "members")
    return b""


def build(target: Target, found: list[Statement], connections: int) -> None:
    """Run the statements that come after the rows: indexes side by side, then all else in order.

    A statement that fails beside others stays where it stood and is run again in its turn, so the
    order that `pg_dump` chose can never be what is wrong.

    Raises:
        LoadFailed: The server refused one of them.
        Unavailable: The server went away.
    """
    jobs = _index_jobs(found, target.manifest)
    left: set[int] = {n for n, statement in enumerate(found) if statement.builds_on is None}
    builders = [
        threading.Thread(target=_build, args=(target, jobs, found, left), daemon=True)
        for _ in range(min(connections, jobs.qsize()))
    ]
    for builder in builders:
        builder.start()
    for builder in builders:
        builder.join()
    while not jobs.empty():  # every builder lost its session; the rest is done in order
        left.update(jobs.get())
    target.run(statement.text + b"\n" for n, statement in enumerate(found) if n in left)
    reached("post")


def _index_jobs(found: list[Statement], manifest: Manifest) -> queue.SimpleQueue[list[int]]:
    """The index statements of each table, those of the largest table first."""
    rows = {table.name: table.raw_bytes for table in manifest.tables}
    by_table: dict[str, list[int]] = defaultdict(list)
    for n, statement in enumerate(found):
        if statement.builds_on is not None:
            by_table[statement.builds_on].append(n)
    jobs: queue.SimpleQueue[list[int]] = queue.SimpleQueue()
    for table in sorted(by_table, key=lambda table: rows.get(table, 0), reverse=True):
        jobs.put(by_table[table])
    return jobs


def _build(
    target: Target, jobs: queue.SimpleQueue[list[int]], found: list[Statement], left: set[int]
) -> None:
    numbers: list[int] = []
    try:
        with target.enter() as session:
            while True:
                try:
                    numbers = jobs.get_nowait()
                except queue.Empty:
                    return
                workers = "2" if target.is_most(found[numbers[0]].builds_on) else "0"
                feeding.prepare(session, {"max_parallel_maintenance_workers": workers})
                while numbers:
                    _try(session, found[numbers[0]], numbers[0], left)
                    numbers.pop(0)
    except (psycopg.OperationalError, Unavailable):
        left.update(numbers)  # the session is gone; `psql` says why, in its turn


def _try(
    session: psycopg.Connection[Any], statement: Statement, number: int, left: set[int]
) -> None:
    try:
        session.execute(statement.text)
    except psycopg.OperationalError:
        raise
    except psycopg.Error:
        left.add(number)


def _finish(lanes: list[Lane]) -> None:
    while lanes:
        lanes[0].finish()
        lanes.pop(0)


def _skip(packed: Iterator[bytes]) -> None:
    for _ in packed:
        pass


def _explained(error: BaseException, manifest: Manifest) -> BaseException:
    """What a lane met, as one of the three kinds."""
    if not isinstance(error, psycopg.Error):
        return error
    first = str(error).splitlines()[0]
    if isinstance(error, psycopg.OperationalError):
        return psql.unavailable(first, manifest)
    return psql.failed(first, manifest)
