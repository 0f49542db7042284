"""A folder made equal to a stream, whatever the stream says.

Only plain entries are made, and only in folders of the same stream that are known to be folders,
so no link can stand in the way.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

from . import trees
from .trees import BadTree, Entry, Read

_DEEPEST = 200
_OWNERS_RIGHTS = 0o700

Made = Callable[[Entry, os.stat_result], None]
"""Told of each file and link that was made: what the stream said of it, and what it became."""


def unpack(root: Path, read: Read, made: Made, *, most_bytes: int, most_entries: int) -> set[bytes]:
    """Make a folder equal to a stream.

    Returns:
        The paths of all that is in it.

    Raises:
        BadTree: The stream is damaged, names something outside, or holds more than it may.
    """
    folders = {b"": 0}
    seen: set[bytes] = set()
    top = os.fsencode(root)
    while (entry := trees.read_entry(read)).kind != trees.END:
        _check(entry.path, folders, seen)
        seen.add(entry.path)
        most_bytes -= entry.size
        if len(seen) > most_entries or most_bytes < 0:
            raise BadTree(trees.TOO_MUCH)
        place = top + b"/" + entry.path
        if entry.kind == trees.FOLDER:
            _make_folder(place)
            folders[entry.path] = entry.mode & trees.RIGHTS
        elif entry.kind == trees.SAME:
            if not _is_file_or_link(place):
                raise BadTree(f"{entry.path[:100]!r} is said to be here and is not")
        else:
            _make_file(place, entry, read)
            made(entry, os.stat(place, follow_symlinks=False))  # noqa: PTH116
    _prune(top, folders, seen)
    for path in sorted(folders, reverse=True)[:-1]:  # the folder itself stays as it is
        os.chmod(top + b"/" + path, folders[path])  # noqa: PTH101
    return seen


def _check(path: bytes, folders: dict[bytes, int], seen: set[bytes]) -> None:
    if path in seen:  # else a folder could become a link once it is trusted as a folder
        raise BadTree(f"{path[:100]!r} is named twice")
    parent, _, name = path.rpartition(b"/")
    if path.count(b"/") > _DEEPEST:
        raise BadTree(f"{path[:100]!r}... lies too deep")
    is_name = name not in (b"", b".", b"..") and b"\0" not in name
    if parent not in folders or not is_name or trees.is_of_git(name):
        raise BadTree(f"{path[:100]!r} must not be made")


def _is_file_or_link(place: bytes) -> bool:
    try:
        return not stat.S_ISDIR(os.stat(place, follow_symlinks=False).st_mode)  # noqa: PTH116
    except FileNotFoundError:
        return False


def _make_folder(place: bytes) -> None:
    if os.path.islink(place) or not os.path.isdir(place):  # noqa: PTH112, PTH114
        _remove(place)
        os.mkdir(place, _OWNERS_RIGHTS)  # noqa: PTH102
    else:
        os.chmod(place, _OWNERS_RIGHTS)  # noqa: PTH101


def _make_file(place: bytes, entry: Entry, read: Read) -> None:
    _remove(place)
    if entry.kind == trees.LINK:
        target = read(entry.size) if entry.size <= trees.LONGEST_PATH else b""
        if not target or b"\0" in target:
            raise BadTree("a link to nowhere")
        os.symlink(target, place)  # noqa: PTH211
    elif entry.kind == trees.FILE:
        _write(place, entry.mode & trees.RIGHTS, entry.size, read)
    else:
        raise BadTree(f"an entry of the unknown kind {entry.kind!r}")


def _write(place: bytes, mode: int, size: int, read: Read) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(place, flags, 0o600)
    with open(descriptor, "wb", buffering=0) as file:  # noqa: PTH123
        while size:
            data = read(min(size, trees.CHUNK))
            size -= len(data)
            view = memoryview(data)
            while view:
                view = view[file.write(view) :]
        os.fchmod(descriptor, mode)


def _prune(top: bytes, folders: dict[bytes, int], seen: set[bytes]) -> None:
    """Remove what the stream did not name, but for Git's own files at the top."""
    for folder in folders:
        place = top + b"/" + folder
        if os.path.islink(place):  # noqa: PTH114
            raise BadTree(f"{folder[:100]!r} became a link meanwhile")
        with os.scandir(place) as found:
            names = [entry.name for entry in found]
        for name in names:
            path = folder + b"/" + name if folder else name
            if path not in seen and not (folder == b"" and trees.is_of_git(name)):
                _remove(top + b"/" + path)


def _remove(place: bytes) -> None:
    """Remove whatever is in a place, if anything is."""
    if os.path.isdir(place) and not os.path.islink(place):  # noqa: PTH112, PTH114
        _open_all(Path(os.fsdecode(place)))
        shutil.rmtree(place)
    elif os.path.lexists(place):
        os.unlink(place)  # noqa: PTH108


def _open_all(folder: Path) -> None:
    """Let the owner into every folder, so that all can be removed."""
    folder.chmod(_OWNERS_RIGHTS)
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            _open_all(entry)
