"""Load only some tables of a copy: all definitions, their rows, their indexes.

What ties them to other tables (foreign keys, triggers, policies) is left out: those other tables
hold no rows here.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Literal

from flowforge.engines.backup.dumping.dumptext import DumpScanner
from flowforge.engines.backup.dumping.identifiers import canonical, identifier_parts, quoted
from flowforge.engines.backup.loading import parallel, reading, statements
from flowforge.engines.backup.loading.destination import Destination
from flowforge.engines.backup.loading.parallel import OnProgress
from flowforge.engines.backup.loading.statements import Statement
from flowforge.engines.backup.steps import reached
from flowforge.engines.backup.stores.store import Store
from flowforge.engines.postgres import connection
from flowforge.errors import Refused
from flowforge.rules.backups import Member

_FAMILY = """
WITH RECURSIVE family AS (
  SELECT unnest(%s::regclass[])::oid AS oid
  UNION SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN family f ON i.inhparent = f.oid
)
SELECT n.nspname, c.relname, c.relkind = 'r', rn.nspname, r.relname
  FROM pg_catalog.pg_class c JOIN family USING (oid)
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN pg_catalog.pg_class r ON r.oid = pg_catalog.pg_partition_root(c.oid)
  LEFT JOIN pg_catalog.pg_namespace rn ON rn.oid = r.relnamespace
 WHERE c.relkind IN ('r', 'p')
"""
_N = rb"""(?:"[^"]*(?:""[^"]*)*"|[^\s".,()]+)"""
_CREATES = (
    re.compile(
        rb"CREATE (?:UNIQUE )?INDEX (?P<index>%(n)s) ON (?:ONLY )?(?P<table>%(n)s\.%(n)s) "
        % {b"n": _N}
    ),
    re.compile(
        rb"ALTER TABLE ONLY (?P<table>%(n)s\.%(n)s)\s+ADD CONSTRAINT (?P<index>%(n)s) "
        rb"(?:PRIMARY KEY|UNIQUE|EXCLUDE)\b" % {b"n": _N}
    ),
)
_ATTACHES = re.compile(
    rb"ALTER INDEX (?P<parent>%(n)s\.%(n)s) ATTACH PARTITION (?P<child>%(n)s\.%(n)s);" % {b"n": _N}
)
_SETS = (b"SET ", b"SELECT pg_catalog.set_config(")

_Event = tuple[Literal["statement", "copy", "rows"], str, bytes]
"""What it is, the table it is of (for rows), and its text."""


def load(
    store: Store,
    target: Destination,
    tables: Iterable[str],
    *,
    connections: int,
    on_progress: OnProgress = lambda *_: None,
) -> frozenset[str]:
    """Load tables, with their heirs and partitions, and return the names of all of them.

    Args:
        store: Where the copy is.
        target: An empty database.
        tables: What is wanted, by the names of the manifest.
        connections: How many sessions load.
        on_progress: Told the stored bytes done, those in all, and the table just loaded.

    Raises:
        LoadFailed: The server refused something in it.
        Damaged: The copy is damaged.
        Unavailable: The server or the store went away.
    """
    reading.check_unheld(store, target.manifest)
    wanted = _Wanted(target, tables)

    def choose(after: list[Statement]) -> list[Statement]:
        return list(_indexes_of(after, wanted.names, target.codec()))

    if target.manifest.data.members:
        parallel.load(
            store,
            target,
            connections=connections,
            on_progress=on_progress,
            wanted=wanted.holds,
            choose=choose,
        )
    else:
        parallel.build(target, choose(_load_plain(store, target, wanted)), connections)
    return wanted.names


class _Wanted:
    """The tables wanted and those below them, known once the definitions are loaded."""

    def __init__(self, target: Destination, tables: Iterable[str]) -> None:
        self._target, self._tables = target, list(tables)

    @functools.cached_property
    def names(self) -> frozenset[str]:
        asked = [quoted(*identifier_parts(table)) for table in self._tables]
        with connection.connect(self._target.address, self._target.database) as session:
            rows = session.execute(_FAMILY, (asked,)).fetchall()
        names = frozenset(canonical(schema, table) for schema, table, *_ in rows)
        stored = {table.name for table in self._target.manifest.tables}
        for schema, table, holds_rows, *root in rows:
            if holds_rows and not stored & {canonical(schema, table), *_above(root, names)}:
                raise _scattered(canonical(schema, table), root)
        return names

    def holds(self, member: Member) -> bool:
        if member.kind == "rows":
            return member.table in self.names
        return member.kind != "large-objects"


def _above(root: list[str | None], names: frozenset[str]) -> set[str]:
    """The table through which the rows of a partition may come, if it comes back as well."""
    schema, table = root
    return set() if schema is None or table is None else {canonical(schema, table)} & names


def _scattered(table: str, root: list[str | None]) -> Refused:
    schema, above = root
    whole = canonical(schema, above) if schema and above else "the table it belongs to"
    return Refused(
        f"The copy holds the rows of {table} only among those of {whole}.",
        hint=f"Bring back {whole}; {table} comes with it.",
    )


def _indexes_of(
    found: Iterable[Statement], names: frozenset[str], codec: str
) -> Iterator[Statement]:
    """The statements that build indexes of some tables, with the settings they run under."""

    def parts(text: bytes) -> tuple[str, ...]:
        return identifier_parts(text.decode(codec, "backslashreplace"))

    built: set[tuple[str, ...]] = set()
    for statement in found:
        text = statement.text
        if text.startswith(_SETS):
            yield statement
        for pattern in _CREATES:
            if (made := pattern.match(text)) and canonical(*parts(made["table"])) in names:
                built.add((parts(made["table"])[0], *parts(made["index"])))
                yield statement
        attached = _ATTACHES.match(text)
        if attached and built >= {parts(attached["parent"]), parts(attached["child"])}:
            yield statement


class _Events(DumpScanner):
    """A dump text taken apart into statements and rows, as they go by."""

    def __init__(self, codec: str) -> None:
        super().__init__(codec, self._note_rows)
        self.events: list[_Event] = []

    def _note_rows(self, table: str, rows: list[bytes]) -> None:
        self.events.append(("rows", table, b"\n".join(rows) + b"\n"))

    def _take_statement(self, statement: bytes) -> bool:
        begins_rows = super()._take_statement(statement)
        kind: Literal["copy", "statement"] = "copy" if begins_rows else "statement"
        self.events.append((kind, self.current_table or "", statement + b"\n"))
        return begins_rows

    def read(self, text: Iterable[bytes]) -> Iterator[_Event]:
        """All that is in a text."""
        for chunk in text:
            self.feed(chunk)
            yield from self._taken()
        self.finish()
        yield from self._taken()

    def _taken(self) -> list[_Event]:
        taken, self.events = self.events, []
        return taken


def _load_plain(store: Store, target: Destination, wanted: _Wanted) -> list[Statement]:
    """Load from a copy that is one text; return the statements that come after the rows."""
    codec = target.codec()
    events = _Events(codec).read(reading.text_of(store, target.manifest))
    settings: list[bytes] = []
    first: list[_Event] = []
    after: list[bytes] = []

    def definitions() -> Iterator[bytes]:
        for event in events:
            if event[0] == "copy":
                first.append(event)
                return
            if event[2].startswith(_SETS):
                settings.append(event[2])
            yield event[2]

    def rows() -> Iterator[bytes]:
        yield from settings
        for kind, table, text in _with_ends(chain(first, events)):
            if kind != "statement":
                yield text if table in wanted.names else b""
            elif text.startswith(b"SELECT pg_catalog.setval("):
                yield text
            elif not text.startswith(b"SELECT pg_catalog.lo"):
                after.append(text)

    target.run(definitions())
    reached("pre")
    target.run(rows())
    reached("members")
    return statements.split(b"".join([*settings, *after]), codec)


def _with_ends(events: Iterable[_Event]) -> Iterator[_Event]:
    """The events with the mark that ends the rows of a table."""
    inside = None
    for kind, table, text in events:
        if inside is not None and kind != "rows":
            yield "rows", inside, b"\\.\n"
            inside = None
        if kind == "copy":
            inside = table
        yield kind, table, text
    if inside is not None:
        yield "rows", inside, b"\\.\n"
