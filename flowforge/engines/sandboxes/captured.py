"""Output of any size in memory of a fixed size: its head, its tail, and a file for people."""

from __future__ import annotations

from typing import BinaryIO

from flowforge.engines.sandboxes.sandbox import HEAD_BYTES, SPOOL_BYTES, TAIL_BYTES


class Captured:
    """Keeps the first and the last of what it is given.

    Args:
        spool: Where all of it goes, up to `SPOOL_BYTES`.
    """

    def __init__(self, spool: BinaryIO | None = None) -> None:
        self.size = 0
        self._head = bytearray()
        self._tail = bytearray()
        self._spool = spool

    def add(self, data: bytes) -> None:
        """Take the next piece."""
        if self._spool is not None and (room := SPOOL_BYTES - self.size) > 0:
            self._spool.write(data[:room])
        self.size += len(data)
        missing = HEAD_BYTES - len(self._head)
        self._head += data[:missing]
        self._tail += data[missing:]
        if len(self._tail) > 2 * TAIL_BYTES:  # seldom, so that it costs little
            del self._tail[:-TAIL_BYTES]

    @property
    def head(self) -> bytes:
        """The first `HEAD_BYTES`."""
        return bytes(self._head)

    @property
    def tail(self) -> bytes:
        """The last `TAIL_BYTES` of what came after the head."""
        return bytes(self._tail[-TAIL_BYTES:])
