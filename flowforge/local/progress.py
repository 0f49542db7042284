"""Shows a start as it goes: lines that move on a terminal, plain lines anywhere else."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress as Bars
from rich.progress import SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from flowforge.local.steps import Progress


class PlainProgress:
    """One line for each thing that is done."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def begin(self, title: str) -> None:
        """Say nothing; the end of a step tells more."""

    def done(self, title: str, seconds: float, note: str) -> None:
        """Say what was done and how long it took."""
        self.say(f"{title:<12} {seconds:5.1f} s  {note}".rstrip())

    def say(self, text: str) -> None:
        """Say something worth knowing."""
        self.console.print(text, markup=False)


class MovingProgress(PlainProgress):
    """The same, with what is under way below it."""

    def __init__(self, console: Console, bars: Bars) -> None:
        super().__init__(console)
        self.bars = bars
        self.tasks: dict[str, TaskID] = {}
        self.lock = threading.Lock()

    def begin(self, title: str) -> None:
        """Show it as under way."""
        with self.lock:
            self.tasks[title] = self.bars.add_task(title, total=None)

    def done(self, title: str, seconds: float, note: str) -> None:
        """Move it up to what is done."""
        with self.lock:
            if (task := self.tasks.pop(title, None)) is not None:
                self.bars.remove_task(task)
        super().done(title, seconds, note)


@contextmanager
def show(console: Console) -> Iterator[Progress]:
    """Show progress on a console until the block ends."""
    if not console.is_terminal:
        yield PlainProgress(console)
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Bars(*columns, console=console, transient=True) as bars:
        yield MovingProgress(console, bars)
