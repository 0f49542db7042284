"""Shows the logs of the platform's parts, and follows them as they grow."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from flowforge.errors import Refused
from flowforge.local.state import StateFolder

_LOOK_SECONDS = 0.2
_TAIL_BYTES = 64_000
_LINES_OF_ONE = 100
_LINES_OF_EACH = 15


def find(folder: StateFolder, part: str | None) -> list[Path]:
    """The logs that are meant.

    Raises:
        Refused: There is no such log.
    """
    found = sorted(folder.logs.glob("*.log")) if folder.logs.is_dir() else []
    if part is None:
        return [log for log in found if log.stat().st_size]
    chosen = [log for log in found if log.stem == part]
    if not chosen:
        known = ", ".join(log.stem for log in found) or "none yet; start with `flowforge up`"
        raise Refused(f"There is no log {part!r}.", hint=f"There are: {known}.")
    return chosen


def show(logs: Sequence[Path], write: Callable[[str], object], *, follow: bool) -> None:
    """Print the end of each log, then, when asked to, whatever is added.

    Args:
        logs: The files; with several, each line says which it is from.
        write: Takes the text.
        follow: Go on until interrupted.
    """
    prefixes = {log: f"{log.stem}: " if len(logs) > 1 else "" for log in logs}
    places = {log: _show_end(log, prefixes[log], write) for log in logs}
    while follow:
        time.sleep(_LOOK_SECONDS)
        for log, place in places.items():
            places[log] = _show_new(log, place, prefixes[log], write)


def _show_end(log: Path, prefix: str, write: Callable[[str], object]) -> int:
    with log.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(size - _TAIL_BYTES, 0))
        lines = file.read().decode("utf-8", "replace").splitlines()
    for line in lines[-(_LINES_OF_EACH if prefix else _LINES_OF_ONE) :]:
        write(f"{prefix}{line}\n")
    return size


def _show_new(log: Path, place: int, prefix: str, write: Callable[[str], object]) -> int:
    with log.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        place = place if size >= place else 0  # it was emptied, as a large one is
        file.seek(place)
        new = file.read()
    whole = new[: new.rfind(b"\n") + 1]
    for line in whole.decode("utf-8", "replace").splitlines():
        write(f"{prefix}{line}\n")
    return place + len(whole)
