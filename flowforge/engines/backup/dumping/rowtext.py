"""Rows of COPY text as they stream by: cut at line ends, counted, and hashed.

The digest of a table is the sum of XXH3-64 over its rows, whatever their order, so digests of
pieces are simply added. It is there for accidents; against somebody who forges rows there are the
SHA-256 of the object and the store's own lock. A row too large to hold is hashed in parts.
"""

from __future__ import annotations

from xxhash import xxh3_64, xxh3_64_intdigest

from flowforge.rules.backups import TableFacts

MODULUS = 1 << 64
LARGE_ROW_BYTES = 8 * 1024 * 1024
END_MARK = b"\\. "
"""How the line begins that says that a piece is whole; no row can, a backslash is doubled."""


class RowSum:
    """How many rows there were, how many bytes, and the sum of their hashes."""

    def __init__(self) -> None:
        self.rows = 0
        self.raw_bytes = 0
        self.digest = 0
        self._large: xxh3_64 | None = None

    @property
    def inside_row(self) -> bool:
        """Whether the last that was taken is a part of a row that goes on."""
        return self._large is not None

    def take(self, lines: bytes) -> list[bytes]:
        """Take whole rows, each with its line break; return them without."""
        rows = lines[:-1].split(b"\n")
        self.rows += len(rows)
        self.raw_bytes += len(lines)
        self.digest = (self.digest + sum(map(xxh3_64_intdigest, rows))) % MODULUS
        return rows

    def take_part(self, part: bytes, *, ends: bool = False) -> None:
        """Take a part of a row too large to hold, the last one without its line break."""
        self._large = self._large or xxh3_64()
        self._large.update(part)
        self.raw_bytes += len(part) + ends
        if ends:
            self.rows += 1
            self.digest = (self.digest + self._large.intdigest()) % MODULUS
            self._large = None

    def facts(self, table: str, columns: str) -> TableFacts:
        """What a manifest says of a table with these rows."""
        return TableFacts(
            name=table,
            columns=columns,
            rows=self.rows,
            raw_bytes=self.raw_bytes,
            digest=f"{self.digest:016x}",
        )

    def add(self, other: RowSum) -> None:
        """Add what was taken elsewhere."""
        self.rows += other.rows
        self.raw_bytes += other.raw_bytes
        self.digest = (self.digest + other.digest) % MODULUS


class RowText(RowSum):
    """Takes what a session sends for one piece, and gives back whole rows."""

    def __init__(self) -> None:
        super().__init__()
        self.ended = False
        """Whether the end mark has come: everything was sent."""

        self._tail = b""

    def feed(self, chunk: bytes) -> bytes:
        """Take what was sent next; return the text that is complete now, line by line.

        The only text that ends inside a line is that of a row too large to hold.
        """
        data = self._tail + chunk if self._tail else chunk
        cut = data.rfind(b"\n") + 1
        whole, self._tail = data[:cut], data[cut:]
        if whole:
            last = whole.rfind(b"\n", 0, -1) + 1
            # What goes on with a large row may look like the mark.
            begins_line = last > 0 or not self.inside_row
            if begins_line and whole.startswith(END_MARK, last):
                self.ended = True
                whole = whole[:last]
        self._take_lines(whole)
        if len(self._tail) <= LARGE_ROW_BYTES:
            return whole
        part, self._tail = self._tail, b""
        self.take_part(part)
        return whole + part

    def _take_lines(self, whole: bytes) -> None:
        if whole and self.inside_row:
            end = whole.index(b"\n")
            self.take_part(whole[:end], ends=True)
            whole = whole[end + 1 :]
        if whole:
            self.take(whole)
