"""Keeps the platform's processes running, and lets none of them outlive it.

Run as `python -m flowforge.local.supervisor FOLDER`; it is handed its parts as JSON lines on
standard input, because their environments hold secrets. Until it reads `{"detach": true}`, the end
of that input means whoever started it is gone, and it stops everything again.

It is one loop in one thread: it sleeps until a child ends, a line arrives, a signal comes or
something is due. SIGTERM stops all in order, SIGHUP gives parts that failed another chance.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

from flowforge.local import processes
from flowforge.local.part import Part
from flowforge.local.published import Run, run_path, write_run
from flowforge.local.watched import Watched

_LONGEST_SLEEP_SECONDS = 20.0


class Supervisor:
    """The loop and what it watches."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.watched: dict[str, Watched] = {}
        self.guard: subprocess.Popen[bytes] | None = None
        self.published: Run | None = None
        self.unread = b""
        self.is_attached = True
        self.is_stopping = False
        self.is_asked_to_retry = False
        me = processes.identify(os.getpid())
        assert me is not None
        self.me = me

    def run(self) -> int:
        """Watch until told to stop, then stop everything."""
        wake = _listen_to_signals(self)
        while not self.is_stopping:
            self._keep_guard()
            self._tend()
            self._publish()
            inputs = [wake, sys.stdin.fileno()] if self.is_attached else [wake]
            ready, _, _ = select.select(inputs, [], [], self._seconds_until_due())
            if wake in ready:
                os.read(wake, 1024)
            if self.is_attached and sys.stdin.fileno() in ready:
                self._listen()
        self._stop()
        return 0

    def _listen(self) -> None:
        said = os.read(sys.stdin.fileno(), 1 << 16)
        if not said:
            _say("whoever started this is gone; stopping")
            self.is_stopping = True
            return
        *lines, self.unread = (self.unread + said).split(b"\n")
        for line in lines:
            order = json.loads(line)
            if "start" in order:
                part = Part.from_json(order["start"])
                self.watched[part.name] = Watched(part, processes.mark_of(self.folder, part.name))
            elif "detach" in order:
                self.is_attached = False

    def _tend(self) -> None:
        now = time.monotonic()
        for watched in self.watched.values():
            if self.is_asked_to_retry:
                watched.forgive()
            if told := watched.tend(now):
                _say(told)
        self.is_asked_to_retry = False

    def _seconds_until_due(self) -> float:
        due = [watched.due for watched in self.watched.values() if watched.due is not None]
        left = min(due, default=float("inf")) - time.monotonic()
        return min(max(left, 0.0), _LONGEST_SLEEP_SECONDS)

    def _publish(self) -> None:
        seen = {name: watched.seen() for name, watched in self.watched.items()}
        run = Run(self.me, seen, self.is_stopping)
        if run != self.published:
            write_run(self.folder, run)
            self.published = run

    def _keep_guard(self) -> None:
        if self.guard is not None and self.guard.poll() is None:
            return
        if self.guard is not None:
            _say("the guard was killed; starting it again")
        self.guard = subprocess.Popen(
            [sys.executable, "-m", "flowforge.local.guard", str(self.folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            env={**os.environ, processes.MARK: processes.mark_of(self.folder, "guard")},
            start_new_session=True,
        )

    def _stop(self) -> None:
        self._publish()
        levels = sorted({watched.part.level for watched in self.watched.values()}, reverse=True)
        for level in levels:
            group = [w for w in self.watched.values() if w.part.level == level]
            _say(f"stopping {', '.join(watched.part.name for watched in group)}")
            for watched in group:
                watched.ask_to_end()
            deadline = time.monotonic()
            for watched in group:
                watched.finish(deadline + watched.part.stop_seconds)
        processes.end(self._strays(), 3.0)
        run_path(self.folder).unlink(missing_ok=True)
        if self.guard is not None and self.guard.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self.guard.stdin.write(b".")
                self.guard.stdin.close()
            self.guard.wait()
        _say("stopped")

    def _strays(self) -> list[processes.Known]:
        guard = self.guard.pid if self.guard is not None else 0
        marked = processes.find_marked(processes.folder_mark(self.folder))
        return [known for known in marked if known.pid != guard]


def _listen_to_signals(supervisor: Supervisor) -> int:
    receiving, sending = os.pipe()
    os.set_blocking(sending, False)
    os.set_blocking(receiving, False)
    signal.set_wakeup_fd(sending, warn_on_full_buffer=False)

    def stop(*_: object) -> None:
        supervisor.is_stopping = True

    def retry(*_: object) -> None:
        supervisor.is_asked_to_retry = True

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGHUP, retry)
    signal.signal(signal.SIGCHLD, lambda *_: None)  # only to wake up
    return receiving


def _say(text: str) -> None:
    stamp = time.strftime("%Y-%m-%d %H:%M:%S")
    sys.stderr.write(f"{stamp} {text}\n")
    sys.stderr.flush()


def main(folder: str) -> int:
    """Supervise a state folder, unless another one does."""
    os.umask(0o077)
    with (Path(folder) / "supervisor.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say("another supervisor has this folder")
            return 3
        return Supervisor(Path(folder)).run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
