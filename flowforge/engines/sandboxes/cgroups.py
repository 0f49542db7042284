"""The kernel's own bound on all processes of a sandbox together, where one may be made.

Root may on most machines, an ordinary user and a container seldom. Both versions of the kernel's
interface are spoken: a group beside this process's own in the second, below it in the first.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_PREFIX = "flowforge-sandbox-"
_CPU_PERIOD = 100_000
_YOUNG_SECONDS = 60
_FIRST = ("memory", "pids", "cpu")


@dataclass(frozen=True)
class Bounds:
    """What all processes together may use."""

    memory_bytes: int
    processes: int
    cpus: float


@dataclass(frozen=True)
class Cgroup:
    """The groups of one sandbox; one, or one for each controller."""

    folders: tuple[Path, ...]
    counter: Path
    """Where the kernel says how many processes it ended for lack of memory."""

    def add(self, pid: int) -> None:
        """Put a process, with all its children to come, under the bounds."""
        for folder in self.folders:
            (folder / "cgroup.procs").write_text(str(pid))

    def remove(self) -> None:
        """Remove the groups, which must be empty; what is not yet is swept up later."""
        for folder in self.folders:
            with contextlib.suppress(OSError):
                folder.rmdir()


def make(sandbox_id: str, bounds: Bounds) -> Cgroup | None:
    """Make groups with bounds; `None` where that is not allowed."""
    parents = dict(_find_parents())
    made: list[Path] = []
    try:
        for controller, parent in parents.items():
            folder = parent / f"{_PREFIX}{sandbox_id}"
            folder.mkdir()
            made.append(folder)
            for name, value in _settings(controller, bounds).items():
                (folder / name).write_text(value)
    except OSError:
        Cgroup(tuple(made), Path()).remove()
        return None
    if "all" in parents:
        return Cgroup(tuple(made), made[0] / "memory.events")
    if not set(_FIRST) <= set(parents):
        Cgroup(tuple(made), Path()).remove()
        return None
    return Cgroup(tuple(made), made[list(parents).index("memory")] / "memory.oom_control")


def sweep(alive: set[str]) -> None:
    """Remove the empty groups that sandboxes of dead processes left."""
    before = time.time() - _YOUNG_SECONDS
    for _, parent in _find_parents():
        for folder in parent.glob(f"{_PREFIX}*"):
            with contextlib.suppress(OSError):
                is_old = folder.stat().st_mtime < before
                if is_old and folder.name.removeprefix(_PREFIX) not in alive:
                    folder.rmdir()


def _settings(controller: str, bounds: Bounds) -> dict[str, str]:
    quota = str(int(bounds.cpus * _CPU_PERIOD))
    memory, processes = str(bounds.memory_bytes), str(bounds.processes)
    return {
        "all": {
            "memory.max": memory,
            "pids.max": processes,
            "cpu.max": f"{quota} {_CPU_PERIOD}",
        },
        "memory": {"memory.limit_in_bytes": memory},
        "pids": {"pids.max": processes},
        "cpu": {"cpu.cfs_period_us": str(_CPU_PERIOD), "cpu.cfs_quota_us": quota},
    }[controller]


def _find_parents() -> Iterator[tuple[str, Path]]:
    """Where groups may be made: by controller, or one place for `all`."""
    mounts = _find_mounts()
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            if controller in _FIRST and controller in mounts:
                yield controller, mounts[controller] / path.lstrip("/")
        if not controllers and "all" in mounts:
            own = mounts["all"] / path.lstrip("/")
            parent = own if path == "/" else own.parent
            with contextlib.suppress(OSError):
                enabled = (parent / "cgroup.subtree_control").read_text().split()
                if set(_FIRST) <= set(enabled):
                    yield "all", parent


def _find_mounts() -> dict[str, Path]:
    found: dict[str, Path] = {}
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        words = line.split()
        kind, _, options = words[words.index("-") + 1 :][:3]
        if kind == "cgroup2":
            found["all"] = Path(words[4])
        elif kind == "cgroup":
            found |= dict.fromkeys(options.split(","), Path(words[4]))
    return found


def open_counter(cgroup: Cgroup) -> int:
    """Open the counter for a process that cannot reach it by its path."""
    return os.open(cgroup.counter, os.O_RDONLY | os.O_CLOEXEC)
