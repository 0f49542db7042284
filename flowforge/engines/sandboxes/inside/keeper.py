"""The first process of a sandbox: starts commands, carries their bytes, ends them all.

It is one loop without threads. It never waits for a command: what a command does not read, write or
end costs that command only. It dies when the brain's end of the stream is closed, and every process
of its namespace with it.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Callable
from typing import Any

from . import frames, room, spawn, watch
from .links import Links
from .run import Run

TICK_SECONDS = 0.05
_READABLE = select.POLLIN | select.POLLHUP | select.POLLERR
_WRITABLE = select.POLLOUT | select.POLLERR
_FEW = 2
"""No more than one part in so many of the processes allowed may be left between commands."""


class Keeper:
    """Serves one brain until it goes away.

    Args:
        hear: Where the brain's frames come from. That and the next are the only way to it.
        tell: Where frames for the brain go; it may be the same socket.
        place: What every process is given.
        links: The proxy's port.
        memory_bytes: The most memory all processes together may have of their own.
        count_kills: How often the kernel ended a process here because memory ran out.
    """

    def __init__(
        self,
        hear: int,
        tell: int,
        place: spawn.Place,
        links: Links,
        memory_bytes: int,
        count_kills: Callable[[], int],
    ) -> None:
        self._hear = hear
        self._tell = tell
        self._place = place
        self._links = links
        self._memory_bytes = memory_bytes
        self._count_kills = count_kills
        self._received = bytearray()
        self._to_send = bytearray()
        self._runs: dict[int, Run] = {}
        self._left_open: list[int] = []
        self._has_children = False
        self._next_look = 0.0
        self._files = 0

    def serve(self) -> None:
        """Work until the brain has gone."""
        os.set_blocking(self._hear, False)
        os.set_blocking(self._tell, False)
        with contextlib.suppress(ConnectionError):
            while self._turn():
                pass

    def _turn(self) -> bool:
        """Wait for something to happen and answer it; false when the brain has gone."""
        ready = dict(self._poll())
        if ready.get(self._hear, 0) & _READABLE and not self._receive():
            return False
        for number, run in self._runs.items():
            self._carry(number, run, ready)
        self._to_send += self._links.carry(ready)
        self._reap()
        self._judge()
        for number, run in list(self._runs.items()):
            if run.is_over(time.monotonic()):
                del self._runs[number]
                self._finish(number, run)
        self._send()
        return True

    def _poll(self) -> list[tuple[int, int]]:
        poll = select.poll()
        poll.register(self._hear, _READABLE)
        if self._to_send:
            both = self._hear == self._tell
            poll.register(self._tell, _WRITABLE | (_READABLE if both else 0))
        has_room = len(self._to_send) < frames.WINDOW
        for run in self._runs.values():
            run.register(poll, has_room=has_room)
        self._links.register(poll, has_room=has_room)
        return poll.poll(TICK_SECONDS * 1000 if self._has_children or self._runs else None)

    def _receive(self) -> bool:
        data = os.read(self._hear, frames.WINDOW)
        self._received += data
        for kind, number, payload in frames.unpack(self._received):
            self._obey(kind, number, payload)
        return bool(data)

    def _obey(self, kind: bytes, number: int, payload: bytes) -> None:
        run = self._runs.get(number)
        if kind == frames.START:
            self._start(number, frames.read_values(payload))
        elif kind == frames.INPUT and run:
            run.add_input(payload)
        elif kind == frames.INPUT_END and run:
            run.end_input()
        elif kind in frames.OF_LINKS:
            self._links.obey(kind, number, payload)
        elif kind == frames.KILL:
            self._kill_all()
            self._to_send += frames.pack(frames.KILLED)
        elif kind == frames.PING:
            self._to_send += frames.pack(frames.PONG)

    def _start(self, number: int, request: dict[str, Any]) -> None:
        self._make_room()
        try:
            run = Run.start(self._place, request, self._count_kills())
        except BlockingIOError:  # no process is left, so what holds them all has to go
            self._kill_all()
            run = Run.start(self._place, request, self._count_kills())
        self._runs[number] = run
        self._has_children = True

    def _carry(self, number: int, run: Run, ready: dict[int, int]) -> None:
        if ready.get(run.input, 0) & _WRITABLE and (taken := run.feed()):
            self._to_send += frames.pack(frames.TAKEN, number, taken.to_bytes(4, "big"))
        if ready.get(run.output, 0) & _READABLE and (data := run.read()):
            self._to_send += frames.pack(frames.OUTPUT, number, data)

    def _reap(self) -> None:
        """Take the statuses of all that ended; orphans end up here as well."""
        runs = {run.pid: run for run in self._runs.values()}
        while self._has_children:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                self._has_children = False
                return
            if pid == 0:
                return
            if pid in runs:
                runs[pid].ended(os.waitstatus_to_exitcode(status))

    def _judge(self) -> None:
        """End everything when time or memory is up, and let nobody block on a forgotten pipe."""
        now = time.monotonic()
        late = [run for run in self._runs.values() if run.is_late(now)]
        for run in late:
            run.timed_out = True
        hungry = self._has_children and now > self._next_look and self._is_hungry(now)
        if hungry:
            for run in self._runs.values():
                run.out_of_memory = True
        if late or hungry:
            self._kill_all()
        self._left_open = [pipe for pipe in self._left_open if _drain(pipe)]

    def _is_hungry(self, now: float) -> bool:
        """Whether there is too much memory, or ever more files where no disk bounds them."""
        self._next_look = now + TICK_SECONDS
        most = self._place.bounds.files
        before, self._files = self._files, watch.count_files(room.WRITABLE, most)
        too_many = self._files > max(before, most)
        return too_many or watch.look().private_bytes > self._memory_bytes

    def _finish(self, number: int, run: Run) -> None:
        """Tell how a run ended, and keep its pipe open for what it left in the background."""
        self._make_room()
        if (left := run.close()) is not None:
            self._left_open.append(left)
        values = {
            "status": run.shell_status,
            "seconds": run.seconds,
            "timed_out": run.timed_out,
            "out_of_memory": run.out_of_memory or self._count_kills() > run.kills_before,
        }
        self._to_send += frames.pack_values(frames.END, number, values)

    def _make_room(self) -> None:
        """End what is left in the background when a next command could not start its own."""
        most = self._place.bounds.processes // _FEW
        if self._has_children and watch.look().processes > most:
            self._kill_all()

    def _kill_all(self) -> None:
        """End every process but this one. In one step: none can be born meanwhile."""
        runs = {run.pid: run for run in self._runs.values()}
        with contextlib.suppress(ProcessLookupError):
            os.kill(-1, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, 0)
                if pid in runs:
                    runs[pid].ended(os.waitstatus_to_exitcode(status))
        self._has_children = False

    def _send(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self._to_send:
                sent = os.write(self._tell, self._to_send)
                del self._to_send[:sent]


def _drain(pipe: int) -> bool:
    """Read away what nobody wants; false when the pipe is closed, as nobody writes any more."""
    try:
        if os.read(pipe, frames.CHUNK):
            return True
    except BlockingIOError:
        return True
    os.close(pipe)
    return False
