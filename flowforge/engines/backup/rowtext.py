"""Rows of COPY text as they stream by: cut at line ends, counted, and hashed.

The digest of a table is the one `dumptext` describes: the sum of XXH3-128 over its rows, whatever
their order, so digests of pieces are simply added. A row too large to hold is hashed in parts.
"""

from __future__ import annotations

from xxhash import xxh3_128, xxh3_128_intdigest

MODULUS = 1 << 128
LARGE_ROW_BYTES = 8 * 1024 * 1024
END_MARK = b"\\. "
"""How the line begins that says that a piece is whole; no row can, a backslash is doubled."""


class RowText:
    """Takes what a session sends for one piece, and gives back whole rows."""

    def __init__(self) -> None:
        self.rows = 0
        self.raw_bytes = 0
        self.digest = 0
        self.ended = False
        """Whether the end mark has come: everything was sent."""

        self._tail = b""
        self._large: xxh3_128 | None = None

    @property
    def inside_row(self) -> bool:
        """Whether the last text given back ended in the middle of a large row."""
        return self._large is not None

    def feed(self, chunk: bytes) -> bytes:
        """Take what was sent next; return the text that is complete now, line by line.

        The only text that ends inside a line is that of a row too large to hold.
        """
        data = self._tail + chunk if self._tail else chunk
        cut = data.rfind(b"\n") + 1
        whole, self._tail = data[:cut], data[cut:]
        if whole:
            last = whole.rfind(b"\n", 0, -1) + 1
            if whole.startswith(END_MARK, last):
                self.ended = True
                whole = whole[:last]
        given = self._take(whole)
        if len(self._tail) > LARGE_ROW_BYTES:
            given += self._begin_large()
        return given

    def _take(self, whole: bytes) -> bytes:
        if not whole:
            return b""
        rest = self._end_large(whole) if self._large is not None else whole
        if rest:
            rows = rest[:-1].split(b"\n")
            self.rows += len(rows)
            self.digest = (self.digest + sum(map(xxh3_128_intdigest, rows))) % MODULUS
        self.raw_bytes += len(whole)
        return whole

    def _begin_large(self) -> bytes:
        part, self._tail = self._tail, b""
        self._large = self._large or xxh3_128()
        self._large.update(part)
        self.raw_bytes += len(part)
        return part

    def _end_large(self, whole: bytes) -> bytes:
        """Close the large row that was open; return the rows behind it."""
        assert self._large is not None
        end = whole.index(b"\n")
        self._large.update(whole[:end])
        self.digest = (self.digest + self._large.intdigest()) % MODULUS
        self.rows += 1
        self._large = None
        return whole[end + 1 :]
