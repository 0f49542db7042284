"""What a contender's process tells about itself; nothing but Python's own modules are needed.

A contender reads what it shall do from standard input, does one job, tells what it has used by
then, does all others at once, and tells that.
"""

from __future__ import annotations

import json
import re
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

READ = "ls -la && cat numbers.txt"
WRITE = "seq 1 200 > numbers.txt && wc -l numbers.txt"
FILES = {
    "README.md": "# Numbers\n",
    "numbers.txt": "1\n2\n3\n",
    "tools/add.sh": "echo $((2 + 2))\n",
}
TURNS = 5
Reply = dict[str, object]
"""One reply of the rehearsal model, as its script has it."""


def script(end: Reply) -> str:
    """A prompt that has four commands run, two of which change files, and then the end."""
    commands = [READ, WRITE, "grep -c 1 numbers.txt; sh tools/add.sh", "echo 201 >> numbers.txt"]
    turns: list[Reply] = [
        {"text": f"Step {n}.", "tools": [{"bash": command}]}
        for n, command in enumerate(commands, 1)
    ]
    return scripted([*turns, end])


def scripted(turns: list[Reply]) -> str:
    """A prompt that tells the rehearsal model what to say."""
    return f"Do what the script says.\n\n```rehearsal\n{json.dumps(turns)}\n```\n"


def write_files(folder: Path) -> None:
    """The files every job begins with."""
    for name, content in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


def check(folder: Path) -> None:
    """Whether the commands of a job had their effect."""
    assert len((folder / "numbers.txt").read_text().splitlines()) == 201, folder


class Meter:
    """Wall, CPU and memory of this process, as parts of its work.

    Args:
        spawned: When its parent started it, by the clock all processes share.
    """

    def __init__(self, spawned: float) -> None:
        self._began, self._used = spawned, (0.0, 0.0)
        self._own_bytes = 0

    def started(self) -> None:
        """The first job is done: tell what that took, everything that was loaded included."""
        own, children = _cpu_seconds()
        wall = time.monotonic() - self._began
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        self._own_bytes = _status("VmRSS")
        tell(startup_wall=wall, startup_cpu=own + children, own_bytes=self._own_bytes)
        self._began, self._used = time.monotonic(), (own, children)

    def done(self, **more: float) -> None:
        """All other jobs are done: tell what they took."""
        own, children = _cpu_seconds()
        peak = _status("VmHWM")
        tell(
            wall=time.monotonic() - self._began,
            own_cpu=own - self._used[0],
            children_cpu=children - self._used[1],
            peak_bytes=peak,
            grown_bytes=peak - self._own_bytes,
            **more,
        )


def tell(**figures: float) -> None:
    """Tell the parent."""
    print(json.dumps(figures), flush=True)


def told() -> dict[str, Any]:
    """What the parent asks for."""
    asked: dict[str, Any] = json.load(sys.stdin)
    return asked


def run(work: Callable[[dict[str, Any], Meter], None]) -> None:
    """Do what the parent asks for."""
    asked = told()
    work(asked, Meter(asked["spawned"]))


def _cpu_seconds() -> tuple[float, float]:
    """User and system time of this process, and of the children it has waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    own, children = (each.ru_utime + each.ru_stime for each in used)
    return own, children


def _status(name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024
