"""The format of a Redis snapshot, as far as it must be understood here.

`redis-check-rdb` belongs to Redis and reads every byte of a file without a server: it follows the
structure to its end and computes the CRC-64. What it does not print, how many keys each database
has, stands in the file where it says that the database begins.

Source of the format: rdb.c and rdb.h of Redis 7.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
import tempfile
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from flowforge.engines.redis import programs
from flowforge.errors import Damaged, FlowForgeError, Refused, Unavailable
from flowforge.rules.redis_copies import KeyCounts, RdbFacts

TRAILER_BYTES = 9  # the opcode of the end, and the CRC-64 of everything before it
END_MARK_BYTES = 40  # a server that does not know the size beforehand puts a mark after the end
_KEPT_BYTES = TRAILER_BYTES + END_MARK_BYTES
_MAGIC = re.compile(rb"(?:REDIS|VALKEY)(\d{3,4})")
_AUX, _RESIZE = 0xFA, 0xFB
_AUX_LINE = re.compile(r"AUX FIELD (\S+) = '(.*)'")
_DATABASE_LINE = re.compile(r"\[offset (\d+)\] Selecting DB ID (\d+)")
_END_LINE = re.compile(r"\[offset (\d+)\] \\o/ RDB looks OK! \\o/")
_COUNT_LINE = re.compile(r"\[info\] (\d+) (keys read|expires)\b")
_ERROR_LINE = re.compile(r"--- RDB ERROR DETECTED ---\s+(?:\[offset \d+\] )?(.*)")
_CHECK_SECONDS = 4 * 3600.0


class EndsEarly(Unavailable):
    """A snapshot whose end is missing."""


class Checker:
    """Reads an RDB file while it streams by."""

    def __init__(self) -> None:
        self._said = tempfile.TemporaryFile()  # noqa: SIM115  `close` closes it
        self._process = subprocess.Popen(
            [programs.find("redis-check-rdb"), "/dev/stdin"],
            stdin=subprocess.PIPE,
            stdout=self._said,
            stderr=self._said,
            start_new_session=True,
        )
        self._head, self._tail = b"", b""
        self._fed_bytes = 0

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes; raises as `finish` does as soon as something is found wrong."""
        assert self._process.stdin is not None
        self._head = (self._head + chunk[:16])[:16]
        self._tail = (self._tail + chunk[-_KEPT_BYTES:])[-_KEPT_BYTES:]
        self._fed_bytes += len(chunk)
        try:
            self._process.stdin.write(chunk)
        except BrokenPipeError:  # it has said its word, which is good if only the end mark is left
            self.finish()

    def finish(self) -> RdbFacts:
        """End the file and say what it held; a mark of replication after its end is passed over.

        Raises:
            Damaged: It is not a whole RDB file.
            EndsEarly: Its end is missing.
            Refused: The program is too old for it.
        """
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait(timeout=_CHECK_SECONDS)
        self._said.seek(0)
        said = self._said.read().decode("utf-8", "replace")
        facts = _read_report(said, self._process.returncode, self._head)
        after = self._fed_bytes - facts.size_bytes
        if after not in (0, END_MARK_BYTES):
            raise Damaged(
                f"{after:,} bytes follow after the end of the snapshot.",
                hint="Nothing was kept of it. Run it again, and look at what is between.",
            )
        tail = self._tail[: len(self._tail) - after][-TRAILER_BYTES:]
        crc = tail[1:][::-1].hex()  # it is written with its lowest byte first
        return facts.model_copy(update={"crc64": crc if "Checksum OK" in said else None})

    def close(self) -> None:
        """Let go of the program and of what it said."""
        assert self._process.stdin is not None
        if self._process.poll() is None:
            self._process.kill()
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait()
        self._said.close()


def check_chunks(chunks: Iterable[bytes]) -> RdbFacts:
    """Read an RDB file that comes in pieces; raises as `Checker.finish` does."""
    with contextlib.closing(Checker()) as checker:
        for chunk in chunks:
            checker.feed(chunk)
        return checker.finish()


def check_file(path: Path) -> RdbFacts:
    """Read an RDB file on the disk; raises as `Checker.finish` does."""
    with path.open("rb") as file:
        return check_chunks(iter(lambda: file.read(1024 * 1024), b""))


def read_counts(file: IO[bytes], facts: RdbFacts) -> dict[int, KeyCounts]:
    """What the source wrote about each database into its snapshot."""
    counts = {}
    for number, offset in facts.database_offsets.items():
        file.seek(offset)
        head = file.read(32)
        if head[:1] != bytes([_RESIZE]):
            raise Damaged(
                f"The snapshot does not say how many keys database {number} has.",
                hint="It was written by a server before Redis 3.2; upgrade that server.",
            )
        keys, at = _length(head, 1)
        expires, _ = _length(head, at)
        counts[number] = KeyCounts(key_count=keys, expires=expires)
    return counts


def created_at(head: bytes) -> datetime | None:
    """When a snapshot was begun by the source's clock, from its first few hundred bytes."""
    if not _MAGIC.match(head):
        raise Unavailable(
            "What the server sent is not a snapshot.",
            hint="Check that it is a Redis, then run it again.",
        )
    at = 9
    with contextlib.suppress(IndexError):
        while head[at] == _AUX:
            name, at = _text(head, at + 1)
            value, at = _text(head, at)
            if name == b"ctime":
                return datetime.fromtimestamp(int(value), UTC)
    return None


def _read_report(said: str, status: int, head: bytes) -> RdbFacts:
    magic, end = _MAGIC.match(head), _END_LINE.search(said)
    if status != 0 or magic is None or end is None:
        raise _what_is_wrong(said, status)
    aux = dict(_AUX_LINE.findall(said))
    counts = {word: int(number) for number, word in _COUNT_LINE.findall(said)}
    return RdbFacts(
        rdb_version=int(magic[1]),
        size_bytes=int(end[1]),
        key_count=counts["keys read"],
        expires=counts["expires"],
        crc64=None,
        created_at=datetime.fromtimestamp(int(aux["ctime"]), UTC) if "ctime" in aux else None,
        replication_id=aux.get("repl-id"),
        replication_offset=int(aux["repl-offset"]) if "repl-offset" in aux else None,
        database_offsets={int(number): int(at) for at, number in _DATABASE_LINE.findall(said)},
    )


def _what_is_wrong(said: str, status: int) -> FlowForgeError:
    found = _ERROR_LINE.search(said)
    cause = found[1].strip() if found else f"redis-check-rdb ended with {status}"
    if "Can't handle RDB format version" in said:
        return Refused(
            f"The Redis programs here ({programs.version('redis-cli')}) are older than the "
            "server that wrote the snapshot.",
            hint="Install redis-tools and redis-server of the server's version or newer where "
            "operations run.",
        )
    if "Unexpected EOF" in cause:
        return EndsEarly(
            "The snapshot ends before its end.", hint="The server went away; run it again."
        )
    return Damaged(
        f"The snapshot is not whole: {cause}.",
        hint="Nothing was kept of it. Run it again; if it happens twice, run redis-check-rdb and a "
        "memory test on the server.",
    )


def _length(data: bytes, at: int) -> tuple[int, int]:
    """A length as Redis packs it, and where the next thing begins."""
    first = data[at]
    if first >> 6 == 0:
        return first & 0x3F, at + 1
    if first >> 6 == 1:
        return ((first & 0x3F) << 8) | data[at + 1], at + 2
    wide = {0x80: 4, 0x81: 8}[first]
    return int.from_bytes(data[at + 1 : at + 1 + wide], "big"), at + 1 + wide


def _text(data: bytes, at: int) -> tuple[bytes, int]:
    """A short text of the header, which may be packed as a number."""
    first = data[at]
    if first >> 6 == 3:
        wide = 1 << (first & 0x3F)
        number = int.from_bytes(data[at + 1 : at + 1 + wide], "little", signed=True)
        return str(number).encode(), at + 1 + wide
    size, at = _length(data, at)
    return data[at : at + size], at + size
