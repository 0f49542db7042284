"""Which processes are ours, and how they end for certain.

A process is known by its pid *and* its start time, because pids are used again. Everything the
platform starts also carries a mark in its environment that its children inherit, so what a killed
worker left behind is found whatever session, group or parent it has by then.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import psutil

MARK = "FLOWFORGE_MARK"
_POLL_SECONDS = 0.02
_KILL_SECONDS = 5.0


@dataclass(frozen=True)
class Known:
    """One process, and no later one that got its pid."""

    pid: int
    started: float
    """When it started, in the system's own unit; only compared, never shown."""


def folder_mark(folder: Path) -> str:
    """What the marks of everything that belongs to a state folder begin with."""
    return hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:12]


def mark_of(folder: Path, part: str) -> str:
    """The mark of one part of the platform in a state folder."""
    return f"{folder_mark(folder)}/{part}/"


def identify(pid: int) -> Known | None:
    """The process that has this pid now."""
    started = _started(pid)
    return None if started is None else Known(pid, started)


def is_alive(process: Known | None) -> bool:
    """Whether exactly this process still runs; one that ended and waits to be reaped does not."""
    if process is None or _started(process.pid) != process.started:
        return False
    try:
        return psutil.Process(process.pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def find_marked(prefix: str) -> list[Known]:
    """Every process whose mark begins with `prefix`; never this one nor one it runs under."""
    spared = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    found = []
    for process in psutil.process_iter():
        if process.pid in spared:
            continue
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get(MARK, "").startswith(prefix):
                found.append(identify(process.pid))
    return [known for known in found if known is not None]


def with_descendants(processes: Iterable[Known]) -> list[Known]:
    """The given processes and everything they started, oldest first."""
    found: dict[int, Known] = {}
    for process in processes:
        if not is_alive(process):
            continue
        found[process.pid] = process
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in psutil.Process(process.pid).children(recursive=True):
                if known := identify(child.pid):
                    found.setdefault(known.pid, known)
    return list(found.values())


def send(process: Known, number: signal.Signals) -> None:
    """Signal a process, unless it has ended."""
    if is_alive(process):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, number)


def wait_gone(processes: Iterable[Known], seconds: float) -> list[Known]:
    """Wait until processes have ended; return those that have not."""
    deadline = time.monotonic() + seconds
    left = [process for process in processes if is_alive(process)]
    while left and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
        left = [process for process in left if is_alive(process)]
    return left


def end(
    processes: Iterable[Known], seconds: float, number: signal.Signals = signal.SIGTERM
) -> None:
    """Ask processes to end, and kill what has not after `seconds`."""
    asked = [process for process in processes if is_alive(process)]
    for process in asked:
        send(process, number)
    left = with_descendants(wait_gone(asked, seconds))
    for process in left:
        send(process, signal.SIGKILL)
    wait_gone(left, _KILL_SECONDS)


def _started(pid: int) -> float | None:
    # Linux counts ticks since boot, which a corrected clock does not move; psutil's time does move.
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
        return float(stat.rpartition(b")")[2].split()[19])
    except (FileNotFoundError, ProcessLookupError):
        pass
    try:
        return psutil.Process(pid).create_time()
    except psutil.NoSuchProcess:
        return None
