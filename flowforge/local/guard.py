"""Ends everything the supervisor started when the supervisor itself is killed.

Run as `python -m flowforge.local.guard FOLDER` with a pipe from the supervisor as standard
input: a line on it means an orderly end and nothing to do; its end without one means the
supervisor is gone.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from flowforge.local import processes
from flowforge.local.published import read_run

_WORKERS_SECONDS = 4.0
_REST_SECONDS = 6.0


def sweep(folder: Path) -> None:
    """End what is on record or carries the folder's mark: the highest level first."""
    mark = processes.folder_mark(folder)
    run = read_run(folder)
    recorded = sorted(run.parts.values(), key=lambda seen: -seen.level) if run else []
    for level in sorted({seen.level for seen in recorded}, reverse=True):
        names = [name for name, seen in (run.parts if run else {}).items() if seen.level == level]
        group = [known for name in names for known in processes.find_marked(f"{mark}/{name}/")]
        group += [seen.process for seen in recorded if seen.level == level and seen.process]
        whole = processes.with_descendants(group)
        processes.end(whole, _WORKERS_SECONDS if level > 1 else _REST_SECONDS)
    processes.end(processes.with_descendants(processes.find_marked(mark)), _REST_SECONDS)


def main(folder: str) -> int:
    """Wait for the supervisor's end, then clean up if it was not an orderly one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    if not os.read(sys.stdin.fileno(), 1):
        sweep(Path(folder))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
