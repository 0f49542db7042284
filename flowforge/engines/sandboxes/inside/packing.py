"""A folder made into a stream, while others may change it."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from . import trees
from .trees import Entry

_ALL_RIGHTS = 0o7777
_OWNER_ENTERS = 0o700
_OWNER_READS = 0o400
_CHANGED_MEANWHILE = (errno.ENOENT, errno.ENOTDIR, errno.EINVAL, errno.ELOOP)


def pack(
    root: Path, *, known: Mapping[bytes, bytes], most_bytes: int | None = None
) -> Iterator[bytes]:
    """Read a folder into a stream; what vanishes meanwhile is left out.

    What its owner shut themself out of is opened for as long as it takes.

    Args:
        root: The folder.
        known: Marks of files the other end has; those are only named.
        most_bytes: The stream breaks off when the files hold more. Holes count, so they may.
    """
    size, young_since = 0, time.time_ns() - trees.YOUNG_NANOSECONDS
    folders: set[bytes] = set()
    with contextlib.ExitStack() as shut_again:
        for place, path in _walk(os.fsencode(root), folders, shut_again):
            with _passing_by_what_changed():
                status = os.stat(place, follow_symlinks=False)  # noqa: PTH116
                entry = trees.describe(path, status, young_since=young_since)
                if entry is None:
                    continue
                size += entry.size
                if most_bytes is not None and size > most_bytes:
                    yield trees.break_off(trees.TOO_MUCH)
                    return
                if entry.kind == trees.FOLDER:
                    folders.add(path)
                yield from _pack_entry(place, entry, known)
    yield Entry(trees.END, b"").pack()


def _walk(
    top: bytes, folders: set[bytes], shut_again: contextlib.ExitStack
) -> Iterator[tuple[bytes, bytes]]:
    """Every place in a folder with its path in there, a folder before what is in it.

    Args:
        top: The folder.
        folders: Paths that the other end was told are folders; only in these is more. What was
            one when it was listed may be something else by now.
        shut_again: Shuts what was opened to be read.
    """
    waiting = [b""]
    while waiting:
        inner = waiting.pop()
        for entry in _list(os.path.join(top, inner), shut_again):  # noqa: PTH118
            path = os.path.join(inner, entry.name)  # noqa: PTH118
            yield entry.path, path
            if path in folders:
                waiting.append(path)


def _list(place: bytes, shut_again: contextlib.ExitStack) -> list[os.DirEntry[bytes]]:
    with _passing_by_what_changed():
        shut_again.enter_context(_opened_to_owner(place))
        with os.scandir(place) as found:
            named = (entry for entry in found if not trees.is_of_git(entry.name))
            return sorted(named, key=lambda entry: entry.name)
    return []


def _pack_entry(place: bytes, entry: Entry, known: Mapping[bytes, bytes]) -> Iterator[bytes]:
    if entry.kind == trees.FOLDER:
        yield entry.pack()
    elif known.get(entry.path) == entry.mark:
        yield entry._replace(kind=trees.SAME).pack()
    elif entry.kind == trees.LINK:
        target = os.readlink(place)  # noqa: PTH115
        yield entry._replace(size=len(target)).pack() + target
    else:
        yield from _pack_file(place, entry)


def _pack_file(place: bytes, entry: Entry) -> Iterator[bytes]:
    """One file, of the size it has when it is opened, even if it changes under our hands."""
    with _opened_to_owner(place):
        descriptor = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb", buffering=0) as file:  # noqa: PTH123
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            return
        left = status.st_size
        yield entry._replace(size=left).pack()
        while left:
            data = file.read(min(left, trees.CHUNK)) or bytes(min(left, trees.CHUNK))
            left -= len(data)
            yield data


@contextlib.contextmanager
def _opened_to_owner(place: bytes) -> Iterator[None]:
    """Let the owner in where they shut themself out, and shut it again."""
    mode = os.stat(place, follow_symlinks=False).st_mode  # noqa: PTH116
    wanted = mode | (_OWNER_ENTERS if stat.S_ISDIR(mode) else _OWNER_READS)
    if mode == wanted:
        yield
        return
    os.chmod(place, wanted & _ALL_RIGHTS)  # noqa: PTH101
    try:
        yield
    finally:
        with _passing_by_what_changed():
            os.chmod(place, mode & _ALL_RIGHTS)  # noqa: PTH101


@contextlib.contextmanager
def _passing_by_what_changed() -> Iterator[None]:
    """Leave out what is gone, or something else, since its folder was listed."""
    try:
        yield
    except OSError as error:
        if error.errno not in _CHANGED_MEANWHILE:
            raise
