"""A folder as one stream of bytes: regular files, folders, symbolic links as such, and modes.

Both ends use it, and neither trusts the other: whatever a stream says, what unpacks it makes only
plain entries in folders it made itself. Devices, sockets and pipes do not cross; a file with two
names crosses twice. Git's own files neither cross nor are they touched.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

FOLDER, FILE, LINK, END, BROKEN_OFF = b"d", b"f", b"l", b".", b"!"
CHUNK = 256 * 1024
_ENTRY = struct.Struct("!cHIQ")
_LONGEST_PATH = 2048
_DEEPEST = 200
_RIGHTS = 0o777
_ALL_RIGHTS = 0o7777
_OWNERS_RIGHTS = 0o700
_OWNER_READS = 0o400
TOO_MUCH = "the files are more, or larger, than the disk of a sandbox can hold"

Read = Callable[[int], bytes]
"""Gives exactly so many bytes, or raises."""


class BadTree(Exception):
    """A stream that is no tree, or one that must not be made; the text is the reason."""


def is_of_git(name: bytes) -> bool:
    """Whether a name belongs to Git itself, also on disks that fold names."""
    return name.lower().rstrip(b". ") in (b".git", b"git~1")


def pack(root: Path, *, most_bytes: int | None = None) -> Iterator[bytes]:
    """Read a folder into a stream; what vanishes meanwhile is left out.

    What its owner shut themself out of is opened for the moment of reading. Holes in files count
    as bytes, so `most_bytes` may be more than there is on the disk; then the stream breaks off.
    """
    with contextlib.ExitStack() as shut_again:
        yield from _pack_all(os.fsencode(root), most_bytes, shut_again)


def _pack_all(
    top: bytes, most_bytes: int | None, shut_again: contextlib.ExitStack
) -> Iterator[bytes]:
    size, waiting = 0, [b""]
    while waiting:
        inner = waiting.pop()
        for entry in _list(os.path.join(top, inner), shut_again):  # noqa: PTH118
            path = os.path.join(inner, entry.name)  # noqa: PTH118
            with _passing_by_what_changed():
                status = entry.stat(follow_symlinks=False)
                size += status.st_size if stat.S_ISREG(status.st_mode) else 0
                if most_bytes is not None and size > most_bytes:
                    yield break_off(TOO_MUCH)
                    return
                yield from _pack_entry(entry.path, path, status)
                if stat.S_ISDIR(status.st_mode):
                    waiting.append(path)
    yield _ENTRY.pack(END, 0, 0, 0)


def break_off(reason: str) -> bytes:
    """What a stream ends with when the folder cannot be read to its end."""
    text = reason.encode()[:_LONGEST_PATH]
    return _ENTRY.pack(BROKEN_OFF, 0, len(text), 0) + text


def _list(place: bytes, shut_again: contextlib.ExitStack) -> list[os.DirEntry[bytes]]:
    with _passing_by_what_changed():
        shut_again.enter_context(_opened_to_owner(place))
        with os.scandir(place) as found:
            return sorted((e for e in found if not is_of_git(e.name)), key=lambda e: e.name)
    return []


@contextlib.contextmanager
def _passing_by_what_changed() -> Iterator[None]:
    """Leave out what is gone, or something else, since its folder was listed."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.EINVAL, errno.ELOOP):
            raise


def _pack_entry(place: bytes, path: bytes, status: os.stat_result) -> Iterator[bytes]:
    mode = status.st_mode & _RIGHTS
    if stat.S_ISDIR(status.st_mode):
        yield _head(FOLDER, mode, path, 0)
    elif stat.S_ISLNK(status.st_mode):
        target = os.readlink(place)  # noqa: PTH115
        yield _head(LINK, mode, path, len(target)) + target
    elif stat.S_ISREG(status.st_mode):
        yield from _pack_file(place, path, mode)


def _head(kind: bytes, mode: int, path: bytes, size: int) -> bytes:
    return _ENTRY.pack(kind, mode, len(path), size) + path


def _pack_file(place: bytes, path: bytes, mode: int) -> Iterator[bytes]:
    """One file, of the size it has when it is opened, even if it changes under our hands."""
    with _opened_to_owner(place):
        descriptor = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb", buffering=0) as file:  # noqa: PTH123
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            return
        left = status.st_size
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
        with _passing_by_what_changed():
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
        path = read(length) if length <= _LONGEST_PATH else b""
        if kind == BROKEN_OFF:
            raise BadTree(path.decode(errors="replace"))
        _check(path, folders)
        entries, most_bytes = entries + 1, most_bytes - size
        if entries > most_entries or most_bytes < 0:
            raise BadTree(TOO_MUCH)
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


def _check(path: bytes, folders: dict[bytes, int]) -> None:
    """Let pass only a path in a folder of the same stream, so that no link stands in the way."""
    parent, _, name = path.rpartition(b"/")
    if path.count(b"/") > _DEEPEST:
        raise BadTree(f"{path[:100]!r}... lies too deep")
    if parent not in folders or name in (b"", b".", b"..") or b"\0" in name or is_of_git(name):
        raise BadTree(f"{path[:100]!r} must not be made")


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
