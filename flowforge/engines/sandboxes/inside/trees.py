"""A folder as one stream of bytes: regular files, folders, symbolic links as such, and modes.

Both ends use it, and neither trusts the other: whatever a stream says, what unpacks it makes only
plain entries in folders it made itself. Devices, sockets and pipes do not cross; a file with two
names crosses twice. Git's own files neither cross nor are they touched.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

FOLDER, FILE, LINK, END = b"d", b"f", b"l", b"."
CHUNK = 256 * 1024
_ENTRY = struct.Struct("!cHIQ")
_LONGEST_PATH = 2048
MOST_PER_ENTRY = _ENTRY.size + 2 * _LONGEST_PATH
"""The most bytes an entry needs beside its content."""

_DEEPEST = 200
_RIGHTS = 0o777
_ALL_RIGHTS = 0o7777
_OWNERS_RIGHTS = 0o700
_OWNER_READS = 0o400

Read = Callable[[int], bytes]
"""Gives exactly so many bytes, or raises."""


class BadTree(Exception):
    """A stream that is no tree, or one that must not be made; the text is the reason."""


def is_of_git(name: bytes) -> bool:
    """Whether a name belongs to Git itself, also on disks that fold names."""
    return name.lower().rstrip(b". ") in (b".git", b"git~1")


def pack(root: Path) -> Iterator[bytes]:
    """Read a folder into a stream; what vanishes meanwhile is left out.

    What its owner shut themself out of is opened for the moment of reading.
    """
    top = os.fsencode(root)
    waiting = [b""]
    while waiting:
        inner = waiting.pop()
        for entry in _list(os.path.join(top, inner)):  # noqa: PTH118
            path = os.path.join(inner, entry.name)  # noqa: PTH118
            with contextlib.suppress(FileNotFoundError):
                yield from _pack_entry(entry, path)
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(path)
    yield _ENTRY.pack(END, 0, 0, 0)


def _list(place: bytes) -> list[os.DirEntry[bytes]]:
    try:
        with _opened_to_owner(place), os.scandir(place) as found:
            return sorted((e for e in found if not is_of_git(e.name)), key=lambda e: e.name)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _pack_entry(entry: os.DirEntry[bytes], path: bytes) -> Iterator[bytes]:
    status = entry.stat(follow_symlinks=False)
    mode = status.st_mode & _RIGHTS
    if stat.S_ISDIR(status.st_mode):
        yield _head(FOLDER, mode, path, 0)
    elif stat.S_ISLNK(status.st_mode):
        target = os.readlink(entry.path)  # noqa: PTH115
        yield _head(LINK, mode, path, len(target)) + target
    elif stat.S_ISREG(status.st_mode):
        yield from _pack_file(entry.path, path, mode)


def _head(kind: bytes, mode: int, path: bytes, size: int) -> bytes:
    return _ENTRY.pack(kind, mode, len(path), size) + path


def _pack_file(place: bytes, path: bytes, mode: int) -> Iterator[bytes]:
    """One file, of the size it has when it is opened, even if it changes under our hands."""
    with _opened_to_owner(place):
        descriptor = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb", buffering=0) as file:  # noqa: PTH123
        left = os.fstat(descriptor).st_size
        yield _head(FILE, mode, path, left)
        while left:
            data = file.read(min(left, CHUNK)) or bytes(min(left, CHUNK))
            left -= len(data)
            yield data


@contextlib.contextmanager
def _opened_to_owner(place: bytes) -> Iterator[None]:
    """Let the owner in where they shut themself out, and shut it again."""
    mode = os.stat(place, follow_symlinks=False).st_mode  # noqa: PTH116
    wanted = mode | (_OWNERS_RIGHTS if stat.S_ISDIR(mode) else _OWNER_READS)
    if mode == wanted:
        yield
        return
    os.chmod(place, wanted & _ALL_RIGHTS)  # noqa: PTH101
    try:
        yield
    finally:
        os.chmod(place, mode & _ALL_RIGHTS)  # noqa: PTH101


def unpack(root: Path, read: Read, *, most_bytes: int, most_entries: int) -> None:
    """Make a folder equal to a stream.

    Raises:
        BadTree: The stream is damaged, names something outside, or holds more than it may.
    """
    clear(root)
    folders: dict[bytes, int] = {b"": root.stat().st_mode & _RIGHTS}
    entries = 0
    while True:
        kind, mode, length, size = _ENTRY.unpack(read(_ENTRY.size))
        if kind == END:
            break
        path = _checked(read(length) if length <= _LONGEST_PATH else b"", folders)
        entries, most_bytes = entries + 1, most_bytes - size
        if entries > most_entries or most_bytes < 0:
            raise BadTree("the files are more, or larger, than the disk of a sandbox can hold")
        place = os.fsencode(root) + b"/" + path
        if kind == FOLDER:
            os.mkdir(place, _OWNERS_RIGHTS)  # noqa: PTH102
            folders[path] = mode & _RIGHTS
        elif kind == LINK:
            os.symlink(_checked_target(read, size), place)  # noqa: PTH211
        elif kind == FILE:
            _unpack_file(place, mode & _RIGHTS, size, read)
        else:
            raise BadTree(f"an entry of the unknown kind {kind!r}")
    for path in sorted(folders, reverse=True):
        os.chmod(os.fsencode(root) + b"/" + path, folders[path])  # noqa: PTH101


def _checked(path: bytes, folders: dict[bytes, int]) -> bytes:
    """A path in a folder of the same stream, so that no link can stand in the way."""
    parent, _, name = path.rpartition(b"/")
    if path.count(b"/") > _DEEPEST:
        raise BadTree(f"{path[:100]!r}... lies too deep")
    if parent not in folders or name in (b"", b".", b"..") or b"\0" in name or is_of_git(name):
        raise BadTree(f"{path[:100]!r} must not be made")
    return path


def _checked_target(read: Read, size: int) -> bytes:
    target = read(size) if size <= _LONGEST_PATH else b""
    if not target or b"\0" in target:
        raise BadTree("a link to nowhere")
    return target


def _unpack_file(place: bytes, mode: int, size: int, read: Read) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(place, flags, 0o600)
    with open(descriptor, "wb", buffering=0) as file:  # noqa: PTH123
        while size:
            data = read(min(size, CHUNK))
            size -= len(data)
            view = memoryview(data)
            while view:
                view = view[file.write(view) :]
        os.fchmod(descriptor, mode)


def clear(root: Path) -> None:
    """Remove everything in a folder but Git's own files at its top."""
    for entry in root.iterdir():
        if is_of_git(os.fsencode(entry.name)):
            continue
        if entry.is_dir() and not entry.is_symlink():
            _open_all(entry)
            shutil.rmtree(entry)
        else:
            entry.unlink()


def _open_all(folder: Path) -> None:
    """Let the owner into every folder, so that all can be removed."""
    folder.chmod(_OWNERS_RIGHTS)
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            _open_all(entry)
