from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from flowforge.local import published
from flowforge.local.part import Part
from flowforge.local.published import Seen
from flowforge.local.session import Session, clean_up

T = TypeVar("T")
Eventually = Callable[[Callable[[], T | None]], T]


class Stage:
    """A supervisor in a folder of its own, and tiny parts for it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "supervisor.log"
        self.session = Session(folder, self.log)

    def part(self, name: str, code: str, **fields: object) -> Part:
        """A part that runs a few lines of Python."""
        command = (sys.executable, "-S", "-E", "-c", code)
        given = {"log": str(self.folder / f"{name}.log"), "stop_seconds": 5.0, **fields}
        return Part(name, command, {"FOLDER": str(self.folder)}, **given)  # type: ignore[arg-type]

    def seen(self, name: str) -> Seen | None:
        """The part as it is published now."""
        run = published.read_run(self.folder)
        return run.parts.get(name) if run else None

    def running(self, name: str, restarts: int = 0) -> Seen:
        """Wait until the part runs, having been started again so many times."""

        def look() -> Seen | None:
            seen = self.seen(name)
            return seen if seen and seen.is_running and seen.restarts >= restarts else None

        return eventually(look)

    def pid_in(self, name: str) -> int:
        """Wait until a process wrote its pid into a file of the folder."""

        def look() -> int | None:
            file = self.folder / name
            text = file.read_text() if file.exists() else ""
            return int(text) if text.endswith("\n") else None

        return eventually(look)


def eventually(look: Callable[[], T | None], seconds: float = 20.0) -> T:
    """Look until there is something to see."""
    deadline = time.monotonic() + seconds
    while not (seen := look()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)
    return seen


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    folder = tmp_path / "a state folder"
    folder.mkdir()
    made = Stage(folder)
    made.session.start()
    yield made
    made.session.stop()
    assert not clean_up(folder), "something was left running"


@pytest.fixture(name="eventually")
def _eventually() -> Callable[[Callable[[], object]], object]:
    return eventually
