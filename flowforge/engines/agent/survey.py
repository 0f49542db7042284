"""A walk over the files of a job, before Git looks at them."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Survey:
    """What a walk over the mirror found."""

    too_large: frozenset[bytes]
    empty_folders: tuple[bytes, ...]
    repositories: tuple[bytes, ...]
    looks: bytes
    """A digest of what the kernel says of each file: it differs as soon as a file does."""

    files: int
    """How many there are that are no folders."""

    changed_at: int
    """When the last file changed, in nanoseconds since 1970."""


def look(files: Path, most_file_bytes: int) -> Survey:
    """Walk over the mirror, and make readable to its owner what is not."""
    large: list[bytes] = []
    empty: list[bytes] = []
    repositories: list[bytes] = []
    looks, changed_at, files_seen = hashlib.sha256(), 0, 0
    root = os.fsencode(files)
    todo = [root]
    while todo:
        folder = todo.pop()
        with os.scandir(folder) as found:
            entries = list(found)
        if not entries and folder != root:
            empty.append(folder[len(root) + 1 :])
        for entry in entries:
            about = entry.stat(follow_symlinks=False)
            path = entry.path[len(root) + 1 :]
            is_folder = stat.S_ISDIR(about.st_mode)
            changed = 0 if is_folder else about.st_ctime_ns
            changed_at = max(changed_at, changed)
            look = (about.st_mode, 0 if is_folder else about.st_size, changed, about.st_ino)
            looks.update(b"%d %d %d %d %s\0" % (*look, path))
            files_seen += not is_folder and entry.name != b".git"
            if entry.name == b".git":
                _remove(entry.path, about.st_mode)
                repositories.append(path)
            elif stat.S_ISDIR(about.st_mode):
                _open_up(entry.path, about.st_mode, 0o700)
                todo.append(entry.path)
            elif stat.S_ISREG(about.st_mode):
                _open_up(entry.path, about.st_mode, 0o600)
                if about.st_size > most_file_bytes:
                    large.append(path)
    return Survey(
        frozenset(large), tuple(empty), tuple(repositories), looks.digest(), files_seen, changed_at
    )


def names(files: Path) -> list[str]:
    """The paths of all files of the mirror, in order."""
    root = os.fsencode(files)
    found = [
        os.path.join(folder, name)[len(root) + 1 :]  # noqa: PTH118
        for folder, _, inside in os.walk(root)
        for name in inside
    ]
    return [path.decode(errors="backslashreplace") for path in sorted(found)]


def _remove(path: bytes, mode: int) -> None:
    if stat.S_ISDIR(mode):
        shutil.rmtree(path)
    else:
        os.unlink(path)  # noqa: PTH108


def _open_up(path: bytes, mode: int, needed: int) -> None:
    if mode & needed != needed:
        os.chmod(path, stat.S_IMODE(mode) | needed)  # noqa: PTH101
