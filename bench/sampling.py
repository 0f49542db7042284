"""What a tree of processes uses, seen from outside: CPU seconds, peak memory, peak disk."""

from __future__ import annotations

import contextlib
import threading
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

import psutil

_INTERVAL_SECONDS = 0.05


@dataclass
class Sampler:
    """Watches processes and all they start, until the `with` block ends.

    A process that lives shorter than an interval is missed; its work is lost for everybody alike.
    """

    roots: list[int]
    folder: Path | None = None
    """Count the bytes below it, too."""

    measure_memory: bool = True
    cpu_seconds: float = 0.0
    peak_memory_bytes: int = 0
    peak_folder_bytes: int = 0
    _first: dict[psutil.Process, float] = field(default_factory=dict)
    _last: dict[psutil.Process, float] = field(default_factory=dict)
    _ended: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Sampler:
        for process in self._processes():
            with contextlib.suppress(psutil.Error):
                self._first[process] = own_cpu_seconds(process)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join()
        self._look()
        self.cpu_seconds = sum(
            seconds - self._first.get(process, 0.0) for process, seconds in self._last.items()
        )

    def _run(self) -> None:
        while not self._ended.wait(_INTERVAL_SECONDS):
            self._look()

    def _look(self) -> None:
        memory_bytes = 0
        for process in self._processes():
            with contextlib.suppress(psutil.Error, OSError):
                self._last[process] = own_cpu_seconds(process)
                if self.measure_memory:
                    memory_bytes += proportional_bytes(process)
        self.peak_memory_bytes = max(self.peak_memory_bytes, memory_bytes)
        if self.folder is not None:
            self.peak_folder_bytes = max(self.peak_folder_bytes, folder_bytes(self.folder))

    def _processes(self) -> list[psutil.Process]:
        found: list[psutil.Process] = []
        for root in self.roots:
            with contextlib.suppress(psutil.Error):
                process = psutil.Process(root)
                found += [process, *process.children(recursive=True)]
        return found


def own_cpu_seconds(process: psutil.Process) -> float:
    """User and system time of one process, without its children's."""
    times = process.cpu_times()
    return float(times.user + times.system)


def proportional_bytes(process: psutil.Process) -> int:
    """Memory of one process, shared pages counted by its share where the system says it."""
    rollup = Path(f"/proc/{process.pid}/smaps_rollup")
    if rollup.exists():
        for line in rollup.read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return int(process.memory_info().rss)


def folder_bytes(folder: Path) -> int:
    """Bytes of all files below a folder."""
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            total += path.stat().st_size if path.is_file() else 0
    return total
