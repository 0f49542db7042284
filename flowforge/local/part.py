"""One long-running process of the platform, as data the supervisor is handed."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Part:
    """What to run, how to stop it and where its output goes."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    """Its whole environment; nothing else is inherited."""

    directory: str = "/"
    listens: tuple[tuple[str, int], ...] = ()
    """Hosts and ports the supervisor listens on for it and passes on to each of its processes."""

    log: str = os.devnull
    level: int = 0
    """Parts of a higher level are stopped first; those of one level together."""

    stop_signal: str = "SIGTERM"
    stop_seconds: float = 10.0
    crashes_allowed: int = 8
    """Deaths in a row, each before it has run for a minute, after which it is given up."""

    is_forking_for_others: bool = False
    """What it started belongs to another part and goes on when this one dies."""

    orphan_signal: str = "SIGTERM"
    """What the kernel sends it when the supervisor is killed, where the kernel can."""

    pid_file: str | None = None
    """File whose first line is the pid to signal, when the command is only a wrapper."""

    def to_json(self) -> dict[str, object]:
        """The part as the supervisor reads it."""
        return asdict(self)

    @classmethod
    def from_json(cls, fields: Mapping[str, object]) -> Part:
        """Read a part that was written by `to_json`."""
        values = dict(fields)
        command, listens = values.pop("command"), values.pop("listens")
        assert isinstance(command, list) and isinstance(listens, list)
        addresses = tuple((host, port) for host, port in listens)
        return cls(command=tuple(command), listens=addresses, **values)  # type: ignore[arg-type]

    @property
    def signal(self) -> signal.Signals:
        """The signal that asks it to end."""
        return signal.Signals[self.stop_signal]


def write_whole(path: Path, text: str) -> None:
    """Write a private file so that a reader sees all of it or the former one."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
