"""What the supervisor tells the rest of the world: `run.json`, written by it alone."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from flowforge.local import processes
from flowforge.local.part import write_whole
from flowforge.local.processes import Known

RUNNING = "running"
RESTARTING = "restarting"
FAILED = "failed"


@dataclass(frozen=True)
class Seen:
    """One part as its supervisor last saw it."""

    status: str
    """`running`, `restarting`, or `failed`: it died too often and waits for the next `up`."""

    process: Known | None
    level: int
    restarts: int
    since: float
    """Unix time of the last change."""

    exit_status: int | None = None
    """How it ended the last time; negative is a signal."""

    @property
    def is_running(self) -> bool:
        """Whether its process is alive right now, whatever the supervisor believes."""
        return self.status == RUNNING and processes.is_alive(self.process)


@dataclass(frozen=True)
class Run:
    """One life of the platform."""

    supervisor: Known
    parts: dict[str, Seen]
    is_stopping: bool = False

    @property
    def is_supervised(self) -> bool:
        """Whether the supervisor is there."""
        return processes.is_alive(self.supervisor)


def run_path(folder: Path) -> Path:
    """Where a state folder keeps it."""
    return folder / "run.json"


def write_run(folder: Path, run: Run) -> None:
    """Publish the present state."""
    document = {
        "supervisor": {"pid": run.supervisor.pid, "started": run.supervisor.started},
        "stopping": run.is_stopping,
        "parts": {
            name: {
                "status": seen.status,
                "pid": seen.process.pid if seen.process else None,
                "started": seen.process.started if seen.process else None,
                "level": seen.level,
                "restarts": seen.restarts,
                "since": seen.since,
                "exit_status": seen.exit_status,
            }
            for name, seen in run.parts.items()
        },
    }
    write_whole(run_path(folder), json.dumps(document, indent=1))


def read_run(folder: Path) -> Run | None:
    """The last state that was published, if any; it may be of a supervisor that is gone.

    One that another version of FlowForge wrote in its own way counts as none; what it started is
    still found by its mark.
    """
    try:
        document = json.loads(run_path(folder).read_bytes())
        parts = {}
        for name, fields in document["parts"].items():
            pid, started = fields.pop("pid"), fields.pop("started")
            process = None if pid is None else Known(pid, started)
            parts[name] = Seen(process=process, **fields)
        return Run(Known(**document["supervisor"]), parts, document["stopping"])
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError, AttributeError):
        return None
