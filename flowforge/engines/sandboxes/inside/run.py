"""One command or file operation, as its keeper sees it."""

from __future__ import annotations

import fcntl
import os
import select
import sys
import termios
import time
from collections.abc import Mapping
from typing import Any

from . import frames, spawn

GRACE_SECONDS = 0.2
"""How long output may still come when the command itself has ended but its children have not."""

_NONE = -1


class Run:
    """A process, its two pipes, and how it ended."""

    def __init__(self, pid: int, pipes: tuple[int, int], seconds: float, kills: int) -> None:
        self.pid = pid
        self.input, self.output = pipes
        self.kills_before = kills
        self.timed_out = False
        self.out_of_memory = False
        self._alive = os.pidfd_open(pid)
        self._started = time.monotonic()
        self._deadline = self._started + seconds
        self._ended: float | None = None
        self._status = 0
        self._still_to_read = 0
        self._waiting = bytearray()
        self._is_input_complete = False

    @classmethod
    def start(cls, place: spawn.Place, request: Mapping[str, Any], kills: int) -> Run:
        """Start what is asked for.

        Raises:
            BlockingIOError: There is no room for one more process.
        """
        from_us, to_us = os.pipe(), os.pipe()
        try:
            pid = os.fork()
        except OSError:
            for pipe in (*from_us, *to_us):
                os.close(pipe)
            raise
        if pid == 0:
            spawn.become(place, request, from_us[0], to_us[1])
        os.close(from_us[0])
        os.close(to_us[1])
        ours = from_us[1], to_us[0]
        for pipe in ours:
            os.set_blocking(pipe, False)
        return cls(pid, ours, float(request["seconds"]), kills)

    def register(self, poll: select.poll, *, has_room: bool) -> None:
        """Say what this run waits for."""
        if self._ended is None:
            poll.register(self._alive, select.POLLIN)
        if self.output != _NONE and has_room:
            poll.register(self.output, select.POLLIN)
        if self.input != _NONE and self._waiting:
            poll.register(self.input, select.POLLOUT)

    def add_input(self, data: bytes) -> None:
        """Take more of its standard input."""
        self._waiting += data

    def end_input(self) -> None:
        """There will be no more of it."""
        self._is_input_complete = True
        if not self._waiting:
            self._close_input()

    def feed(self) -> int:
        """Give it what it takes without waiting.

        Returns:
            How many bytes are off our hands, swallowed or not.
        """
        try:
            taken = os.write(self.input, self._waiting)
        except BlockingIOError:
            return 0
        except BrokenPipeError:
            taken = len(self._waiting)
        del self._waiting[:taken]
        if self._is_input_complete and not self._waiting:
            self._close_input()
        return taken

    def read(self) -> bytes:
        """What it has written, or nothing."""
        try:
            data = os.read(self.output, frames.CHUNK)
        except BlockingIOError:
            return b""
        if not data:
            os.close(self.output)
            self.output = _NONE
        self._still_to_read -= len(data)
        return data

    def ended(self, status: int) -> None:
        """Its process has ended."""
        self._status = status
        self._ended = time.monotonic()
        if self.output != _NONE:
            in_pipe = fcntl.ioctl(self.output, termios.FIONREAD, bytes(4))
            self._still_to_read = int.from_bytes(in_pipe, sys.byteorder)

    def is_late(self, now: float) -> bool:
        """Whether its time is up while it still runs."""
        return self._ended is None and now > self._deadline

    def is_over(self, now: float) -> bool:
        """Whether there is nothing more to wait for."""
        if self._ended is None:
            return False
        is_drained = self._still_to_read <= 0 and now > self._ended + GRACE_SECONDS
        return self.output == _NONE or is_drained

    def close(self) -> int | None:
        """Let go of it.

        Returns:
            Its output pipe, when something in the background still has it.
        """
        self._close_input()
        os.close(self._alive)
        return None if self.output == _NONE else self.output

    @property
    def shell_status(self) -> int:
        """Its status as a shell says it."""
        return 128 - self._status if self._status < 0 else self._status

    @property
    def seconds(self) -> float:
        """How long its process ran."""
        return (self._ended or time.monotonic()) - self._started

    def _close_input(self) -> None:
        if self.input != _NONE:
            os.close(self.input)
            self.input = _NONE
