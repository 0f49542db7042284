"""One part in its supervisor's care: started, restarted with growing pauses, given up, stopped.

When a part dies, what it had started is ended before it starts again: a worker that was killed
leaves runs that nobody would watch any more.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from flowforge.local import listeners, processes, published
from flowforge.local.listeners import Listeners
from flowforge.local.part import Part
from flowforge.local.published import Seen

_FIRST_PAUSE_SECONDS = 0.3
_LONGEST_PAUSE_SECONDS = 30.0
_PROVEN_AFTER_SECONDS = 60.0
_LEFTOVER_SECONDS = 8.0
_LOOK_SECONDS = 0.1
_LARGEST_LOG_BYTES = 20_000_000
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


class Watched:
    """One part, its process, and what is to be done about it next."""

    def __init__(self, part: Part, mark: str) -> None:
        self.part = part
        self.mark = mark
        self.listeners = Listeners(part.listens)
        self.process: subprocess.Popen[bytes] | None = None
        self.known: processes.Known | None = None
        self.due: float | None = 0.0
        """When to look at it again; `None` while it runs or was given up."""

        self.status = published.RESTARTING
        self.crashes = 0
        self.restarts = -1
        self.since = time.time()
        self.started = 0.0
        self.exit_status: int | None = None
        self.leftovers: list[processes.Known] = []
        self.leftovers_until = 0.0

    def seen(self) -> Seen:
        """What the supervisor publishes about it."""
        running = self.status == published.RUNNING
        return Seen(
            status=self.status,
            process=self.known if running else None,
            level=self.part.level,
            restarts=max(self.restarts, 0),
            since=self.since,
            exit_status=self.exit_status,
        )

    def forgive(self) -> None:
        """Give a part that was given up another chance."""
        if self.status != published.RUNNING:
            self.crashes = 0
            self.due = 0.0
            self.status = published.RESTARTING

    def tend(self, now: float) -> str | None:
        """Do what is due; return what happened, for the supervisor's log."""
        if self.process is not None:
            if (status := self.process.poll()) is not None:
                return self._mourn(status, now)
            _keep_log_small(Path(self.part.log))
            return None
        if self.due is None or now < self.due:
            return None
        self.leftovers = [known for known in self.leftovers if processes.is_alive(known)]
        if self.leftovers and now < self.leftovers_until:
            self.due = now + _LOOK_SECONDS
            return None
        if self.leftovers:
            processes.end(self.leftovers, 0.0)
        return self._start(now)

    def ask_to_end(self) -> None:
        """Ask its process to end."""
        self.due = None
        self.listeners.close()
        if self.process is not None and self.process.poll() is None:
            known = self._signalled()
            if known is not None:
                processes.send(known, self.part.signal)

    def finish(self, deadline: float) -> None:
        """Wait for its end until `deadline`, then end it and everything it had started."""
        group = processes.find_marked(self.mark)
        group += processes.with_descendants([self.known] if self.known else [])
        if self.process is not None:
            try:
                self.process.wait(max(deadline - time.monotonic(), 0.0))
            except subprocess.TimeoutExpired:
                processes.end(group, 0.0)
                self.process.wait()
        processes.end(group, 3.0)

    def _signalled(self) -> processes.Known | None:
        if self.part.pid_file is not None:
            try:
                pid = int(Path(self.part.pid_file).read_text().split()[0])
            except (FileNotFoundError, IndexError, ValueError):
                return self.known
            return processes.identify(pid)
        return self.known

    def _start(self, now: float) -> str:
        log = os.open(self.part.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            passed = self.listeners.open()
            self.process = subprocess.Popen(
                self.part.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.part.directory,
                env={
                    **self.part.environment,
                    **listeners.told(passed),
                    processes.MARK: self.mark,
                },
                pass_fds=passed,
                start_new_session=True,
                # This process has one thread, so running Python between fork and exec is safe.
                preexec_fn=_die_with_parent(signal.Signals[self.part.orphan_signal], os.getpid()),
            )
        except OSError as error:
            os.write(log, f"{self.part.name} could not be started: {error}\n".encode())
            return self._count(now, f"could not be started: {error}")
        finally:
            os.close(log)
        self.known = processes.identify(self.process.pid)
        self.started = now
        self.restarts += 1
        self._become(published.RUNNING)
        self.due = None
        return f"{self.part.name} started, pid {self.process.pid}"

    def _mourn(self, exit_status: int, now: float) -> str:
        self.process, self.known, self.exit_status = None, None, exit_status
        shared = self.part.is_forking_for_others
        self.leftovers = [] if shared else processes.find_marked(self.mark)
        self.leftovers_until = now + _LEFTOVER_SECONDS
        for known in self.leftovers:
            processes.send(known, signal.SIGTERM)
        if now - self.started >= _PROVEN_AFTER_SECONDS:
            self.crashes = 0
        return self._count(now, f"ended with {exit_status}")

    def _count(self, now: float, what: str) -> str:
        self.crashes += 1
        if self.crashes > self.part.crashes_allowed:
            self.due = None
            self.listeners.close()  # better refused at once than waiting for nobody
            self._become(published.FAILED)
            return f"{self.part.name} {what} for the {self.crashes}th time; given up"
        pause = min(_FIRST_PAUSE_SECONDS * 2 ** (self.crashes - 1), _LONGEST_PAUSE_SECONDS)
        self.due = now + pause
        self._become(published.RESTARTING)
        return f"{self.part.name} {what}; starting it again in {pause:g} s"

    def _become(self, status: str) -> None:
        self.status = status
        self.since = time.time()


def _die_with_parent(number: signal.Signals, parent: int) -> Callable[[], None] | None:
    """Where the kernel can, have it signal the child when this process is killed."""
    if _LIBC is None:
        return None

    def arrange() -> None:
        assert _LIBC is not None
        _LIBC.prctl(_PR_SET_PDEATHSIG, int(number))
        if os.getppid() != parent:
            os._exit(1)

    return arrange


def _keep_log_small(log: Path) -> None:
    # Whoever writes holds the file open for appending, so it is emptied, not renamed.
    if log.is_file() and log.stat().st_size > _LARGEST_LOG_BYTES:
        shutil.copyfile(log, log.with_suffix(".log.1"))
        os.truncate(log, 0)
