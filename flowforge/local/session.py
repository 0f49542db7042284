"""The link between a command and the supervisor: starts one, hands it parts, lets it go."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from flowforge.errors import Unavailable
from flowforge.local import guard, processes, published
from flowforge.local.part import Part
from flowforge.local.published import Run, Seen
from flowforge.local.steps import Abort, tail
from flowforge.settings import PROJECT_ROOT

_STOP_SECONDS = 60.0
_BELIEVED_DEAD_AFTER = 3
_LOCK_SECONDS = 180.0
_LOOK_SECONDS = 0.05


class Session:
    """A supervisor that is still ours: it stops everything when this process ends."""

    def __init__(self, folder: Path, log: Path) -> None:
        self.folder = folder
        self.log = log
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start a supervisor with nothing to watch yet."""
        with self.log.open("a") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "flowforge.local.supervisor", str(self.folder)],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                cwd=PROJECT_ROOT,
                env={**os.environ, processes.MARK: processes.mark_of(self.folder, "supervisor")},
                text=True,
                start_new_session=True,
            )

    def add(self, part: Part) -> None:
        """Have it start a part and keep it running."""
        self._tell({"start": part.to_json()})

    def detach(self) -> None:
        """Let it live on without this process."""
        self._tell({"detach": True})
        assert self.process is not None and self.process.stdin is not None
        self.process.stdin.close()

    def stop(self) -> None:
        """Have it stop everything, and wait for that."""
        if self.process is None:
            return
        if self.process.stdin is not None and not self.process.stdin.closed:
            with contextlib.suppress(BrokenPipeError):
                self.process.stdin.close()
        try:
            self.process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        clean_up(self.folder)

    def _tell(self, order: dict[str, object]) -> None:
        assert self.process is not None and self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(order) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError as error:
            raise Unavailable(
                f"The supervisor ended unexpectedly.\n{tail(self.log)}",
                hint="Run `flowforge doctor`, then `flowforge up` again.",
            ) from error


def wait_until(
    condition: Callable[[], bool], folder: Path, part: str, log: Path, seconds: float, abort: Abort
) -> Seen:
    """Wait until a part runs and a condition holds.

    Raises:
        Unavailable: It keeps dying, or the time is over; with the tail of its log.
    """
    deadline, began, restarts = time.monotonic() + seconds, time.time(), None
    while True:
        run = published.read_run(folder)
        if run is not None and not run.is_supervised:
            hint = "Run `flowforge up` again; if this repeats, read `flowforge logs supervisor`."
            raise Unavailable("The supervisor ended meanwhile.", hint=hint)
        seen = run.parts.get(part) if run else None
        if seen is not None and seen.is_running and condition():
            return seen
        # What it went through before this wait does not count against it.
        restarts = seen.restarts if seen is not None and restarts is None else restarts
        hopeless = seen is not None and (
            (seen.status == published.FAILED and seen.since >= began)
            or seen.restarts - (restarts or 0) >= _BELIEVED_DEAD_AFTER
        )
        if hopeless or time.monotonic() > deadline:
            how = "keeps ending" if hopeless else f"is not ready after {seconds:g} s"
            raise Unavailable(
                f"{part} {how}.\n{tail(log)}",
                hint=f"The whole log is {log}; `flowforge doctor` knows the usual causes.",
            )
        abort.pause(_LOOK_SECONDS)


def stop_running(folder: Path) -> bool:
    """Stop what the folder's supervisor runs, or what one that is gone left; return whether any.

    Raises:
        Unavailable: Something could not be ended.
    """
    run = published.read_run(folder)
    stopped = run is not None and run.is_supervised
    if run is not None and run.is_supervised:
        processes.send(run.supervisor, signal.SIGTERM)
        for known in processes.wait_gone([run.supervisor], _STOP_SECONDS):
            processes.send(known, signal.SIGKILL)
    return clean_up(folder) or stopped


def clean_up(folder: Path) -> bool:
    """End whatever is left of earlier lives of the platform; return whether there was any.

    Raises:
        Unavailable: Something could not be ended.
    """
    mark = processes.folder_mark(folder)
    # One that lost its files would start again whatever is ended here.
    processes.end(processes.find_marked(f"{mark}/supervisor/"), _STOP_SECONDS)
    left = processes.with_descendants([*processes.find_marked(mark), *_recorded(folder)])
    if left:
        guard.sweep(folder)
        if stubborn := [known for known in left if processes.is_alive(known)]:
            pids = ", ".join(str(known.pid) for known in stubborn)
            raise Unavailable(
                f"These processes could not be ended: {pids}.",
                hint="End them by hand (`kill -9`), then try again.",
            )
    published.run_path(folder).unlink(missing_ok=True)
    return bool(left)


def find_supervised(folder: Path) -> Run | None:
    """What runs here now under a living supervisor."""
    run = published.read_run(folder)
    return run if run is not None and run.is_supervised else None


@contextlib.contextmanager
def exclusive(folder: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Be the only `up` or `down` of a folder; wait for another one to end.

    Raises:
        Unavailable: It does not end.
    """
    # The lock belongs to the open file, so it ends with this process, however suddenly.
    with (folder / "command.lock").open("a+") as lock:
        deadline = time.monotonic() + _LOCK_SECONDS
        is_told = False
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not is_told:
                    say("another `flowforge up` or `down` is at work here; waiting for it")
                    is_told = True
            if time.monotonic() > deadline:
                raise Unavailable(
                    f"Another `flowforge up` or `down` has held {folder} for {_LOCK_SECONDS:g} s.",
                    hint="Look at `flowforge status`; end that command, then try again.",
                )
            time.sleep(_LOOK_SECONDS)
        yield


def _recorded(folder: Path) -> list[processes.Known]:
    run = published.read_run(folder)
    seen = run.parts.values() if run else ()
    return [part.process for part in seen if part.process is not None]
