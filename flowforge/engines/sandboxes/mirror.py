"""A folder of the brain that is made equal to a workspace again and again, by what has changed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO, NamedTuple

from flowforge.engines.sandboxes.inside import trees, unpacking
from flowforge.engines.sandboxes.inside.trees import Entry


class _Mark(NamedTuple):
    """A file that is equal on both sides, as long as neither looks different."""

    inside: bytes
    outside: tuple[int, int, int, int]


class Mirror:
    """Remembers what both sides have.

    Args:
        folder: The brain's side. Others may change it; what they changed is fetched anew.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[bytes, _Mark] = {}

    def marks(self) -> dict[bytes, bytes]:
        """The marks of files that need not come again."""
        self._known = {
            path: mark for path, mark in self._known.items() if self._look(path) == mark.outside
        }
        return {path: mark.inside for path, mark in self._known.items()}

    def take(self, stream: BinaryIO, *, most_bytes: int, most_entries: int) -> None:
        """Make the folder equal to what came.

        Raises:
            BadTree: The stream is damaged, names something outside, or holds more than it may.
        """
        known, self._known = self._known, {}

        def note(entry: Entry, status: os.stat_result) -> None:
            known[entry.path] = _Mark(entry.mark, _outside(status))

        bounds = {"most_bytes": most_bytes, "most_entries": most_entries}
        seen = unpacking.unpack(self._folder, exactly(stream), note, **bounds)
        self._known = {path: mark for path, mark in known.items() if path in seen}

    def gave(self, stream: BinaryIO) -> None:
        """Remember what the files became that were given to the other side.

        Raises:
            BadTree: The stream is damaged.
        """
        self._known = {}
        read = exactly(stream)
        while (entry := trees.read_entry(read)).kind != trees.END:
            if (outside := self._look(entry.path)) is not None:
                self._known[entry.path] = _Mark(entry.mark, outside)

    def _look(self, path: bytes) -> tuple[int, int, int, int] | None:
        try:
            place = os.fsencode(self._folder) + b"/" + path
            return _outside(os.stat(place, follow_symlinks=False))  # noqa: PTH116
        except (FileNotFoundError, NotADirectoryError):
            return None


def exactly(stream: BinaryIO) -> trees.Read:
    """What reads exactly so many bytes of a stream, or finds it damaged."""

    def read(size: int) -> bytes:
        data = stream.read(size)
        if len(data) < size:
            raise trees.BadTree("it ended too early")
        return data

    return read


def _outside(status: os.stat_result) -> tuple[int, int, int, int]:
    return status.st_mode, status.st_size, status.st_mtime_ns, status.st_ino
