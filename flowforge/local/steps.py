"""Runs the steps of a start, side by side where one does not need the other.

A step that fails ends the others early; its error carries the tail of its log, because that is
what a person looks for next.
"""

from __future__ import annotations

import contextlib
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from flowforge.errors import Damaged, FlowForgeError, Refused, Unavailable

_POLL_SECONDS = 0.05
_STEP_SECONDS = 180.0
_TAIL_LINES = 15
_KINDS: Mapping[int, type[FlowForgeError]] = {3: Refused, 4: Damaged}


class Progress(Protocol):
    """Whoever shows how far a start has come."""

    def begin(self, title: str) -> None:
        """A step began."""

    def done(self, title: str, seconds: float, note: str) -> None:
        """A step succeeded."""

    def say(self, text: str) -> None:
        """Something worth knowing."""


class Aborted(Exception):
    """Another step failed, or somebody pressed Ctrl-C; not an outcome of its own."""


@dataclass(frozen=True)
class Step:
    """One thing to do once others are done."""

    title: str
    action: Callable[[Abort], str]
    """Does it; returns a few words for the person who watches."""

    needs: tuple[str, ...] = ()
    inputs: str | None = None
    """Digest of what it depends on: the same as the last time means nothing to do."""


class Abort:
    """Tells running steps to give up."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        """Give up."""
        self._event.set()

    def check(self) -> None:
        """Raise when told to give up.

        Raises:
            Aborted: It was.
        """
        if self._event.is_set():
            raise Aborted

    def pause(self, seconds: float = _POLL_SECONDS) -> None:
        """Let time pass between two looks, unless told to give up.

        Raises:
            Aborted: It was.
        """
        self._event.wait(seconds)
        self.check()


def run_steps(
    steps: Sequence[Step],
    remembered: Mapping[str, str],
    progress: Progress,
    on_done: Callable[[Step], None],
) -> None:
    """Run every step as soon as those it needs are done.

    Args:
        steps: What to do.
        remembered: Digest of the inputs each step last succeeded with, by title.
        progress: Is told.
        on_done: Called for each step that succeeded, in the calling thread.

    Raises:
        FlowForgeError: Of the first step that failed.
    """
    abort = Abort()
    waiting = list(steps)
    finished: set[str] = set()
    running: dict[Future[str], tuple[Step, float]] = {}
    with ThreadPoolExecutor(max_workers=len(steps)) as pool:
        try:
            while waiting or running:
                while step := _next_ready(waiting, finished):
                    waiting.remove(step)
                    if step.inputs is not None and remembered.get(step.title) == step.inputs:
                        finished.add(step.title)
                        continue
                    progress.begin(step.title)
                    running[pool.submit(step.action, abort)] = (step, time.monotonic())
                for future in wait(running, return_when=FIRST_COMPLETED).done if running else ():
                    step, began = running.pop(future)
                    note = future.result()
                    progress.done(step.title, time.monotonic() - began, note)
                    finished.add(step.title)
                    on_done(step)
        except BaseException:
            abort.set()
            raise


def run_command(
    command: Sequence[str],
    *,
    log: Path,
    environment: Mapping[str, str],
    directory: Path,
    abort: Abort,
    told: str = "",
) -> str:
    """Run a command of our own and return what it printed.

    Args:
        command: Program and arguments; nothing secret.
        log: Where everything it says is kept.
        environment: Its whole environment.
        directory: Where it runs.
        abort: Ends it early.
        told: What it reads from standard input.

    Raises:
        FlowForgeError: It failed; the kind is that of its exit code.
    """
    with log.open("w", encoding="utf-8") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            env=dict(environment),
            cwd=directory,
            text=True,
        )
        try:
            assert process.stdin is not None
            with contextlib.suppress(BrokenPipeError):  # it ended at once; its log says why
                process.stdin.write(told)
                process.stdin.close()
            _follow(process, command, abort)
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait(timeout=10)
    if process.returncode != 0:
        raise _KINDS.get(process.returncode, Unavailable)(
            f"{_named(command)} failed (exit code {process.returncode}).\n{tail(log)}",
            hint=f"What it said is in {log}; put it right, then run `flowforge up` again.",
        )
    return log.read_text(encoding="utf-8", errors="replace")


def tail(log: Path, lines: int = _TAIL_LINES) -> str:
    """The last lines of a log, indented."""
    try:
        text = log.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return f"  ({log} was never written)"
    return "\n".join(f"  | {line[:300]}" for line in text.splitlines()[-lines:])


def _next_ready(waiting: Sequence[Step], finished: set[str]) -> Step | None:
    return next((step for step in waiting if finished.issuperset(step.needs)), None)


def _follow(process: subprocess.Popen[str], command: Sequence[str], abort: Abort) -> None:
    deadline = time.monotonic() + _STEP_SECONDS
    while process.poll() is None:
        if time.monotonic() > deadline:
            raise Unavailable(
                f"{_named(command)} did not end within {_STEP_SECONDS:g} s.",
                hint="Look at `flowforge logs`; a busy machine may just need another try.",
            )
        abort.pause()


def _named(command: Sequence[str]) -> str:
    return " ".join(["python", *command[1:]])
