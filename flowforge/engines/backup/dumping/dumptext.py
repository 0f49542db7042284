r"""What a `pg_dump` text says, learnt while it streams by.

The text is the only thing a restore will ever see, so its own rows are what is counted and hashed:
a digest costs the source nothing and cannot disagree with the dump about the snapshot. A restored
database is dumped again and read by the same scanner; equal facts are equal data.

A table's digest is the sum of XXH3-64 over its rows modulo 2^64: it does not depend on their
order, and a row altered, lost or doubled changes it. In COPY text a row is a line: newlines inside
values are escaped, and so is a backslash, so a line `\.` can only be the end.

The text between the data is SQL in which a function body or a comment may look like anything, so it
is read in tokens, as psql does, never by lines.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from flowforge.engines.backup.dumping.identifiers import canonical, identifier_parts
from flowforge.engines.backup.dumping.largeobjects import LargeObjects
from flowforge.engines.backup.dumping.rowtext import LARGE_ROW_BYTES, RowSum
from flowforge.errors import Damaged
from flowforge.rules.backups import LargeObjectFacts, SequenceFacts, TableFacts

COMPLETE = b"-- PostgreSQL database dump complete"
_END_OF_COPY = b"\\.\n"

# One token of SQL at a time. A backslash outside quotes only begins a command to psql.
TOKEN = re.compile(
    rb"""
      (?P<skip>\s+ | --[^\n]*\n | \\[^\n]*\n)
    | (?P<quoted>[eE]'[^'\\]*(?:(?:\\.|'')[^'\\]*)*' | '[^']*(?:''[^']*)*' | "[^"]*(?:""[^"]*)*")
    | (?P<dollar>\$(?:[A-Za-z_\x80-\xff][0-9A-Za-z_\x80-\xff]*)?\$)
    | (?P<partial>[eE]?' | " | -- | \\ | \$[0-9A-Za-z_\x80-\xff]*\Z)
    | (?P<open>\() | (?P<close>\)) | (?P<end>;)
    | (?P<other>[A-Za-z_\x80-\xff][0-9A-Za-z_$\x80-\xff]*
             | [^\s'"$;()\\\-A-Za-z_\x80-\xff]+ | [\-$])
    """,
    re.VERBOSE | re.DOTALL,
)
_IDENTIFIER = rb"""(?:"[^"]*(?:""[^"]*)*"|[^\s".,()]+)"""
COPY = re.compile(
    rb"COPY (?P<name>%(id)s(?:\.%(id)s)?) +(?:\((?P<columns>%(id)s(?:, %(id)s)*)\) )?FROM stdin;"
    % {b"id": _IDENTIFIER}
)
_SETVAL = re.compile(
    rb"SELECT pg_catalog\.setval\('(?P<name>(?:[^']|'')+)', (?P<value>-?\d+), "
    rb"(?P<called>true|false)\);"
)
_LO_OPEN = re.compile(rb"SELECT pg_catalog\.lo_open\('(\d+)', \d+\);")
_LO_WRITE = re.compile(rb"SELECT pg_catalog\.lowrite\(0, '\\x([0-9a-f]*)'\);")

RowHook = Callable[[str, list[bytes]], None]
"""Called with a table's canonical name and some of its rows, for every row of the text."""


@dataclass
class _Table:
    name: str
    columns: str
    rows: RowSum = field(default_factory=RowSum)


@dataclass(frozen=True)
class DumpFacts:
    """What one dump text holds."""

    tables: tuple[TableFacts, ...]
    sequences: tuple[SequenceFacts, ...]
    large_objects: LargeObjectFacts
    raw_bytes: int
    complete: bool
    """Whether the text ends as `pg_dump` ends one, after its last row."""


def trailer_line(name: str, facts: DumpFacts) -> str:
    """The last line of a whole copy; a text without it was cut, whatever gunzip says."""
    rows = sum(table.rows for table in facts.tables)
    return f"-- flowforge: complete {name} tables={len(facts.tables)} rows={rows}"


class DumpScanner:
    """Reads a dump text chunk by chunk.

    Args:
        codec: Python's name of the encoding the text is in.
        on_rows: Called with the rows of every table, for who needs them by value.
    """

    def __init__(self, codec: str = "utf-8", on_rows: RowHook | None = None) -> None:
        self.raw_bytes = 0
        self._finished: dict[str, _Table] = {}
        self._codec = codec
        self._on_rows = on_rows
        self._buffer = b""
        self._table: _Table | None = None
        self._sequences: list[SequenceFacts] = []
        self._objects = LargeObjects()
        self._tail = b""
        # Where reading the SQL stands: next token, start of the statement, open parentheses.
        self._position = 0
        self._start: int | None = None
        self._depth = 0
        self._skip_line_break = False

    @property
    def current_table(self) -> str | None:
        """The table whose rows are going by."""
        return self._table.name if self._table else None

    @property
    def tables_done(self) -> int:
        """How many tables have gone by."""
        return len(self._finished)

    def feed(self, chunk: bytes) -> None:
        """Read on."""
        self.raw_bytes += len(chunk)
        self._tail = (self._tail + chunk)[-200:]
        self._buffer += chunk
        while self._read_rows() if self._table else self._read_sql():
            pass

    def finish(self) -> DumpFacts:
        """The facts of the whole text.

        Raises:
            Damaged: The text ends inside a table's rows or inside a statement.
        """
        self.feed(b"\n")  # so that the last token no longer touches the end
        self.raw_bytes -= 1
        if self._table is not None:
            raise Damaged(
                f"The dump text ends inside the rows of {self._table.name}.",
                hint="Do not use this copy; take another one.",
            )
        self._objects.close()
        return self._facts(complete=COMPLETE in self._tail)

    def so_far(self) -> DumpFacts:
        """The facts of the tables that have gone by whole, for who stops before the end."""
        return self._facts(complete=False)

    def _facts(self, *, complete: bool) -> DumpFacts:
        return DumpFacts(
            tables=tuple(t.rows.facts(t.name, t.columns) for t in self._finished.values()),
            sequences=tuple(self._sequences),
            large_objects=self._objects.facts(),
            raw_bytes=self.raw_bytes,
            complete=complete,
        )

    def _read_rows(self) -> bool:
        """Take the rows in the buffer; tell whether SQL follows."""
        assert self._table is not None
        if self._skip_line_break and self._buffer:
            self._buffer, self._skip_line_break = self._buffer[1:], False
        buffer = self._buffer
        if self._table.rows.inside_row:
            return self._read_large()
        if buffer.startswith(_END_OF_COPY):
            end, rest = 0, len(_END_OF_COPY)
        elif (found := buffer.find(b"\n" + _END_OF_COPY)) >= 0:
            end, rest = found + 1, found + 1 + len(_END_OF_COPY)
        else:
            # The last line may be the beginning of the end mark: it stays.
            end = rest = buffer.rfind(b"\n") + 1
            if end:
                self._take_rows(buffer[:end])
                self._buffer = buffer[rest:]
            elif len(buffer) > LARGE_ROW_BYTES and self._on_rows is None:
                self._table.rows.take_part(buffer)
                self._buffer = b""
            return False
        if end:
            self._take_rows(buffer[:end])
        self._finish_table(self._table)
        self._buffer = buffer[rest:]
        return True

    def _read_large(self) -> bool:
        """Read on in a row that is too large to hold; tell whether it ended."""
        assert self._table is not None
        part, line_break, self._buffer = self._buffer.partition(b"\n")
        self._table.rows.take_part(part, ends=bool(line_break))
        return bool(line_break)

    def _finish_table(self, table: _Table) -> None:
        # The rows of partitions that their root deals out anew come one partition after the other.
        if table.name in self._finished:
            table.rows.add(self._finished[table.name].rows)
        self._finished[table.name] = table
        self._table = None

    def _take_rows(self, lines: bytes) -> None:
        assert self._table is not None
        rows = self._table.rows.take(lines)
        if self._on_rows:
            self._on_rows(self._table.name, rows)

    def _read_sql(self) -> bool:
        """Read whole tokens while there are any; tell whether rows follow."""
        while (token := self._next_token()) is not None:
            kind, end = token
            if kind != "skip" and self._start is None:
                self._start = self._position
            self._position = end
            self._depth += (kind == "open") - (kind == "close")
            if kind == "end" and self._depth == 0:
                assert self._start is not None
                statement = self._buffer[self._start : end]
                self._start = None
                if self._take_statement(statement):
                    self._begin_rows()
                    return True
        kept_from = self._position if self._start is None else self._start
        self._buffer = self._buffer[kept_from:]
        self._position -= kept_from
        self._start = None if self._start is None else 0
        return False

    def _next_token(self) -> tuple[str, int] | None:
        """The kind and end of the next token, or `None` until more of it has come."""
        buffer = self._buffer
        found = TOKEN.match(buffer, self._position)
        if found is None:
            return None
        kind, end = found.lastgroup or "", found.end()
        if kind == "dollar":
            closing = buffer.find(found[0], end)
            return ("quoted", closing + len(found[0])) if closing >= 0 else None
        if kind == "partial" or (end == len(buffer) and kind in ("quoted", "other")):
            return None
        return kind, end

    def _take_statement(self, statement: bytes) -> bool:
        """Note what a statement says of the data; tell whether it begins a table's rows."""
        if statement.startswith(b"COPY ") and (copy := COPY.fullmatch(statement)):
            columns = identifier_parts(self._text(copy["columns"] or b""))
            self._table = _Table(
                name=canonical(*identifier_parts(self._text(copy["name"]))),
                columns=", ".join(canonical(column) for column in columns),
            )
            return True
        if found := _SETVAL.fullmatch(statement):
            name = self._text(found["name"].replace(b"''", b"'"))
            self._sequences.append(
                SequenceFacts(
                    name=canonical(*identifier_parts(name)),
                    value=int(found["value"]),
                    is_called=found["called"] == b"true",
                )
            )
        elif found := _LO_OPEN.fullmatch(statement):
            self._objects.open(found[1])
        elif found := _LO_WRITE.fullmatch(statement):
            self._objects.write(found[1])
        return False

    def _begin_rows(self) -> None:
        # The line break after `FROM stdin;` may still be on its way; rows start behind it.
        self._buffer = self._buffer[self._position :]
        self._position = 0
        self._skip_line_break = True

    def _text(self, raw: bytes) -> str:
        return raw.decode(self._codec, "backslashreplace")
