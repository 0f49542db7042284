"""Large objects as they stream by in a `pg_dump` text: counted, measured, hashed."""

from __future__ import annotations

from dataclasses import dataclass, field

from xxhash import xxh3_128_intdigest

from flowforge.rules.backups import LargeObjectFacts

MODULUS = 1 << 128
PIECE_BYTES = 1 << 20


@dataclass
class LargeObjects:
    """Each object hashed in pieces of 1 MiB with its number and place, so none is held whole."""

    count: int = 0
    total_bytes: int = 0
    digest: int = 0
    _number: bytes | None = None
    _piece: int = 0
    _content: bytearray = field(default_factory=bytearray)

    def open(self, number: bytes) -> None:
        """Begin the next object; what was open is closed."""
        self.close()
        self.count += 1
        self._number, self._piece = number, 0

    def write(self, hexadecimal: bytes) -> None:
        """Take a part of its content, as hexadecimal digits."""
        self._content += bytes.fromhex(hexadecimal.decode("ascii"))
        while len(self._content) >= PIECE_BYTES:
            self._fold(PIECE_BYTES)

    def close(self) -> None:
        """End the object that is open."""
        if self._number is not None:
            self._fold(len(self._content))
        self._number = None

    def _fold(self, size: int) -> None:
        assert self._number is not None
        piece = b"%s@%d:" % (self._number, self._piece) + bytes(self._content[:size])
        self.digest = (self.digest + xxh3_128_intdigest(piece)) % MODULUS
        self.total_bytes += size
        self._piece += 1
        del self._content[:size]

    def facts(self) -> LargeObjectFacts:
        """What was seen of them so far."""
        return LargeObjectFacts(
            count=self.count, total_bytes=self.total_bytes, digest=f"{self.digest:032x}"
        )
