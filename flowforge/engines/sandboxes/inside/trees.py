"""The form in which a folder crosses between brain and sandbox: one stream of entries.

Regular files, folders, symbolic links as such, and modes cross. Devices, sockets and pipes do not;
a file with two names crosses twice; Git's own files neither cross nor are they touched. What the
other end still has is only named, by the marks it gave.
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Callable
from typing import NamedTuple

FOLDER, FILE, LINK, SAME, END, BROKEN_OFF = b"d", b"f", b"l", b"=", b".", b"!"
CHUNK = 256 * 1024
LONGEST_PATH = 2048
RIGHTS = 0o777
TOO_MUCH = "the files are more, or larger, than the disk of a sandbox can hold"

Read = Callable[[int], bytes]
"""Gives exactly so many bytes, or raises."""

_ENTRY = struct.Struct("!cHIQQQ")
_MARK = struct.Struct("!HQQQ")
_MARKED = struct.Struct("!I")
_KINDS = {stat.S_IFDIR: FOLDER, stat.S_IFREG: FILE, stat.S_IFLNK: LINK}
YOUNG_NANOSECONDS = 20_000_000
"""The kernel's clock of changes is coarse: a file as young as this may change without a trace."""


class BadTree(Exception):
    """A stream that is no tree, or one that must not be made; the text is the reason."""


class Entry(NamedTuple):
    """One thing in a folder; its content follows it in the stream."""

    kind: bytes
    path: bytes
    mode: int = 0
    size: int = 0
    changed: int = 0
    """When the kernel last saw it change, in nanoseconds; 0 for too lately to rely on."""

    number: int = 0

    @property
    def mark(self) -> bytes:
        """What is different as soon as the file is."""
        return _MARK.pack(self.mode, self.size, self.changed, self.number)

    def pack(self) -> bytes:
        """It without its content."""
        numbers = (self.mode, len(self.path), self.size, self.changed, self.number)
        return _ENTRY.pack(self.kind, *numbers) + self.path


def describe(path: bytes, status: os.stat_result, *, young_since: int) -> Entry | None:
    """What is said of a thing in a folder, or nothing if it does not cross.

    Args:
        path: Its path in the folder.
        status: What the kernel says of it.
        young_since: Changes from this moment on, in nanoseconds, are not relied on.
    """
    kind = _KINDS.get(stat.S_IFMT(status.st_mode))
    if kind is None:
        return None
    changed = 0 if status.st_ctime_ns > young_since else status.st_ctime_ns
    size = 0 if kind == FOLDER else status.st_size
    return Entry(kind, path, status.st_mode & RIGHTS, size, changed, status.st_ino)


def read_entry(read: Read) -> Entry:
    """The next entry of a stream, without its content.

    Raises:
        BadTree: There is none, or the other end broke off.
    """
    kind, mode, length, size, changed, number = _ENTRY.unpack(read(_ENTRY.size))
    if length > LONGEST_PATH:
        raise BadTree("a path is longer than any path")
    path = read(length)
    if kind == BROKEN_OFF:
        raise BadTree(path.decode(errors="replace"))
    return Entry(kind, path, mode, size, changed, number)


def pack_marks(marks: dict[bytes, bytes]) -> bytes:
    """The marks of files that need not be sent."""
    return b"".join(_MARKED.pack(len(path)) + path + mark for path, mark in marks.items())


def read_marks(data: bytes) -> dict[bytes, bytes]:
    """The marks that `pack_marks` packed."""
    marks, at = {}, 0
    while at < len(data):
        (length,) = _MARKED.unpack_from(data, at)
        begin, end = at + _MARKED.size, at + _MARKED.size + length
        at = end + _MARK.size
        marks[data[begin:end]] = data[end:at]
    return marks


def break_off(reason: str) -> bytes:
    """What a stream ends with when the folder cannot be read to its end."""
    return Entry(BROKEN_OFF, reason.encode()[:LONGEST_PATH]).pack()


def is_of_git(name: bytes) -> bool:
    """Whether a name belongs to Git itself, also on disks that fold names."""
    return name.lower().rstrip(b". ") in (b".git", b"git~1")
