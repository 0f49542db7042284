"""Run a command of the brain to its end.

What asyncio has for this takes a thread and three transports for each command; a job runs many, and
they are short.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

from flowforge.errors import FlowForgeError

_PIECE_BYTES = 256 * 1024

Take = Callable[[bytes], None]


async def run(
    command: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: Path,
    out: Take,
    err: Take,
    input: bytes = b"",
) -> int:
    """Run a command; whoever is cancelled or fails meanwhile ends it, with all it has started.

    Args:
        command: The program and its arguments.
        env: Its environment, all of it.
        cwd: The folder it begins in.
        out: Takes what it writes, piece by piece; an error of it ends the command.
        err: The same of standard error.
        input: Its standard input.

    Returns:
        Its status; below zero the signal that ended it.

    Raises:
        FileNotFoundError: There is no such program.
    """
    process = _start(command, env, cwd, input)
    assert process.stdout and process.stderr
    pipes = [_Pipe(process.stdout, out), _Pipe(process.stderr, err)]
    try:
        for pipe in pipes:
            await pipe.ended
        return await _end(process)
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await _end(process)
        for pipe in pipes:
            pipe.close()


def _start(
    command: Sequence[str], env: Mapping[str, str], cwd: Path, input: bytes
) -> subprocess.Popen[bytes]:
    # As a file it needs nobody who feeds it.
    with os.fdopen(os.memfd_create("input"), "w+b") as stdin:
        stdin.write(input)
        stdin.seek(0)
        return subprocess.Popen(
            command,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=env,
            cwd=cwd,
            bufsize=0,
            start_new_session=True,
        )


class _Pipe:
    """What a process writes, on its way to who takes it."""

    def __init__(self, file: IO[bytes], take: Take) -> None:
        self._file, self._take = file, take
        self._loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[None] = self._loop.create_future()
        os.set_blocking(file.fileno(), False)
        self._loop.add_reader(file.fileno(), self._read)

    def _read(self) -> None:
        try:
            piece = os.read(self._file.fileno(), _PIECE_BYTES)
            if piece:
                self._take(piece)
                return
        except BlockingIOError:
            return
        except (FlowForgeError, OSError) as error:  # goes to whoever waits
            self._stop(error)
        else:
            self._stop(None)

    def _stop(self, error: Exception | None) -> None:
        self._loop.remove_reader(self._file.fileno())
        if self.ended.done():
            return
        if error is None:
            self.ended.set_result(None)
        else:
            self.ended.set_exception(error)

    def close(self) -> None:
        """Read no more."""
        self._loop.remove_reader(self._file.fileno())
        self._file.close()
        if not self.ended.cancel() and not self.ended.cancelled():
            self.ended.exception()  # nobody may wait for it any more


async def _end(process: subprocess.Popen[bytes]) -> int:
    """Wait until a process is gone."""
    if process.poll() is None:
        loop = asyncio.get_running_loop()
        gone, handle = asyncio.Event(), os.pidfd_open(process.pid)
        loop.add_reader(handle, gone.set)
        try:
            await gone.wait()
        finally:
            loop.remove_reader(handle)
            os.close(handle)
    return process.wait()
