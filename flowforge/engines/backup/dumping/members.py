"""The engine `members`: rows by several sessions of one snapshot, definitions by `pg_dump`.

The text is what `pg_dump` would write, in an order of its own: definitions, rows in any order,
large objects, sequences, and what needs the rows to be there (indexes, constraints, triggers). Each
part is a gzip member of one object, so plain tools read the whole and a restore may load parts side
by side.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator

from flowforge.engines.backup.dumping import lanes, pgdump, relations
from flowforge.engines.backup.dumping.dumptext import COMPLETE, DumpFacts, DumpScanner, trailer_line
from flowforge.engines.backup.dumping.identifiers import canonical, quoted
from flowforge.engines.backup.dumping.lanes import Lane, Reading, Tally
from flowforge.engines.backup.dumping.packing import Assembly, add_member
from flowforge.engines.backup.dumping.progress import Progress
from flowforge.engines.backup.dumping.relations import Piece, Relation
from flowforge.engines.backup.dumping.snapshot import Snapshot, counting
from flowforge.engines.backup.steps import reached
from flowforge.engines.postgres.installations import Installation
from flowforge.errors import Damaged
from flowforge.rules.addresses import PostgresAddress
from flowforge.rules.backups import LargeObjectFacts, SequenceFacts

MOST_MEMBERS = 10_000
_PACKED_PART = 0.25  # of a database's size, roughly: it also holds indexes and free space
_FEW_RELATIONS = 5_000


def why_not(snapshot: Snapshot) -> str | None:
    """What keeps this engine from copying a database, if anything does."""
    if relations.are_loaded_through_roots(snapshot.session):
        return "a table is partitioned by the hash of an enum, which another database hashes anew"
    seen = snapshot.survey
    if seen.database.encoding == "UTF8" or seen.codec != "utf-8":
        return None
    names = [
        name
        for relation in snapshot.relations
        for name in (relation.schema, relation.table, *relation.columns)
    ]
    if all(name.isascii() and "\\" not in name for name in names):
        return None
    return f"a name in it is not ASCII and its encoding is {seen.database.encoding}"


def copy_into(
    assembly: Assembly,
    address: PostgresAddress,
    name: str,
    snapshot: Snapshot,
    tools: Installation,
    *,
    connections: int,
    count_budget_seconds: float,
    on_progress: Callable[[Progress], None],
) -> DumpFacts:
    """Send a whole copy into an object and say what it holds.

    Raises:
        Refused: A right is missing.
        Unavailable: The server went away.
        Damaged: A part ended well and yet is not whole.
    """
    sequences = relations.read_sequences(snapshot.session)
    reading = _plan(assembly, snapshot, connections)
    source = _Source(address, snapshot, tools, reading.stop)
    after = _Later(source.after_data, at_once=len(snapshot.relations) <= _FEW_RELATIONS)
    working: list[Lane] = []

    def look() -> None:
        snapshot.check_not_lost()
        after.check()
        on_progress(_progress(reading, snapshot))

    try:
        for n in range(min(connections, max(1, reading.pieces.qsize()))):
            working.append(Lane(f"lane-{n}", reading, tools, address, snapshot))
        with counting(snapshot, count_budget_seconds):
            add_member(assembly, "before-data", source.before_data())
            reading.may_send.set()
            lanes.run(working, reading, look)
            objects = _add_large_objects(assembly, source)
            add_member(assembly, "sequences", _setvals(sequences, snapshot.survey.codec))
            add_member(assembly, "after-data", after.texts())
    except BaseException as error:
        lanes.stop(working, reading)
        after.join()
        if isinstance(error, pgdump.RowTooLarge) and reading.too_large:
            raise _name_row(error, snapshot, reading.too_large) from error
        raise
    return _finish(assembly, name, reading, sequences, objects)


def _name_row(error: pgdump.RowTooLarge, snapshot: Snapshot, table: Relation) -> Exception:
    """Say where the row most likely lies that is too large."""
    row = relations.largest_row(snapshot.session, table)
    message = f"{error.message} The largest one is {table.name} {row}."
    return pgdump.RowTooLarge(message, hint=error.hint)


def _plan(assembly: Assembly, snapshot: Snapshot, connections: int) -> Reading:
    pieces = relations.cut(snapshot.relations, snapshot.survey.server.major, connections)
    waiting: queue.SimpleQueue[Piece] = queue.SimpleQueue()
    for piece in pieces:
        waiting.put(piece)
    tallies = {relation.name: _tally(relation) for relation in snapshot.relations}
    for piece in pieces:
        tallies[piece.relation.name].pieces_left += 1
    expected = snapshot.survey.database.size_bytes * _PACKED_PART
    return Reading(
        assembly, waiting, tallies, max(lanes.MEMBER_BYTES, int(expected / MOST_MEMBERS))
    )


def _tally(relation: Relation) -> Tally:
    return Tally(0, ", ".join(map(canonical, relation.columns)))


def _progress(reading: Reading, snapshot: Snapshot) -> Progress:
    at = next(iter(list(reading.current.values())), None)
    size_bytes = snapshot.survey.database.size_bytes
    return Progress(at, reading.tables_done, reading.raw_bytes, size_bytes)


def _finish(
    assembly: Assembly,
    name: str,
    reading: Reading,
    sequences: list[tuple[str, str, int, bool]],
    objects: LargeObjectFacts,
) -> DumpFacts:
    reached("children-exit")
    facts = DumpFacts(
        tables=tuple(
            tally.rows.facts(table, tally.columns)
            for table, tally in sorted(reading.tallies.items())
        ),
        sequences=tuple(
            SequenceFacts(name=canonical(schema, sequence), value=value, is_called=called)
            for schema, sequence, value, called in sequences
        ),
        large_objects=objects,
        raw_bytes=assembly.raw_bytes,
        complete=True,
    )
    add_member(assembly, "trailer", [trailer_line(name, facts).encode() + b"\n"])
    return facts


class _Source:
    """The parts of a copy that `pg_dump` writes."""

    def __init__(
        self,
        address: PostgresAddress,
        snapshot: Snapshot,
        tools: Installation,
        stop: threading.Event,
    ) -> None:
        self._address, self._snapshot, self._tools = address, snapshot, tools
        self._stop = stop

    def before_data(self) -> Iterator[bytes]:
        return self._dump("pre-data")

    def after_data(self) -> Iterator[bytes]:
        return self._dump("post-data")

    def large_objects(self) -> Iterator[bytes]:
        return self._dump("data", "--exclude-table-data=*.*", "-b")

    @property
    def has_large_objects(self) -> bool:
        return self._snapshot.has_large_objects

    @property
    def codec(self) -> str:
        return self._snapshot.survey.codec

    def _dump(self, section: str, *switches: str) -> Iterator[bytes]:
        """One section, which must end as `pg_dump` ends one."""
        seen = self._snapshot.survey
        tail = b""
        for chunk in pgdump.stream_dump(
            self._tools,
            self._address,
            seen.database.name,
            survey=seen,
            snapshot=self._snapshot.token,
            switches=(f"--section={section}", "--no-tablespaces", *switches),
            stop=lambda: self._stop.is_set() or self._snapshot.lost.is_set(),
        ):
            tail = (tail + chunk)[-200:]
            yield chunk
        self._snapshot.check_not_lost()
        # When it was stopped, whoever did that says why.
        if COMPLETE not in tail and not self._stop.is_set():
            raise Damaged(
                f"pg_dump ended well, but its {section} of {seen.database.name!r} has no end.",
                hint="Run the backup again; if it happens twice, look at the tools in the log.",
            )


class _Later:
    """A text needed at the end, fetched beside the rows unless it may be too large to hold."""

    def __init__(self, fetch: Callable[[], Iterator[bytes]], *, at_once: bool) -> None:
        self._fetch = fetch
        self._held: list[bytes] = []
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True) if at_once else None
        if self._thread:
            self._thread.start()

    def texts(self) -> Iterable[bytes]:
        """The text; raises what went wrong while it was fetched."""
        if self._thread is None:
            return self._fetch()
        self.join()
        self.check()
        return self._held

    def check(self) -> None:
        """Raise what went wrong while it was fetched."""
        if self._error is not None:
            raise self._error

    def join(self) -> None:
        """Wait until nothing is fetched any more."""
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        try:
            self._held = list(self._fetch())
        except BaseException as error:  # noqa: BLE001  raised again by `texts`
            self._error = error


def _add_large_objects(assembly: Assembly, source: _Source) -> LargeObjectFacts:
    if not source.has_large_objects:
        return LargeObjectFacts()
    scanner = DumpScanner(source.codec)

    def scanned() -> Iterator[bytes]:
        for chunk in source.large_objects():
            scanner.feed(chunk)
            yield chunk

    add_member(assembly, "large-objects", scanned())
    return scanner.finish().large_objects


def _setvals(sequences: list[tuple[str, str, int, bool]], codec: str) -> Iterator[bytes]:
    """What sets every sequence to where it stood, as `pg_dump` writes it."""
    for schema, sequence, value, called in sequences:
        name = quoted(schema, sequence).replace("'", "''")
        word = "true" if called else "false"
        yield f"SELECT pg_catalog.setval('{name}', {value}, {word});\n".encode(codec)
