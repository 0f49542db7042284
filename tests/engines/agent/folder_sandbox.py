"""A sandbox that is a folder: real commands and files, without any confinement."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from flowforge.engines.sandboxes.contacts import Contact
from flowforge.engines.sandboxes.sandbox import (
    HEAD_BYTES,
    SPOOL_BYTES,
    TAIL_BYTES,
    FileRefused,
    Health,
    Ran,
    SandboxLost,
)


class FolderSandbox:
    """Commands run in `home/workspace`, with `home` as their home and temporary folder."""

    def __init__(self, home: Path) -> None:
        self.id = home.name
        self._home = home
        self._files = home / "workspace"
        self._files.mkdir(parents=True)
        self._running: set[int] = set()
        self.workspace = str(self._files)
        self.execs = 0

    async def exec(
        self,
        argv: Sequence[str],
        *,
        timeout_seconds: float,
        input: bytes = b"",
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        spool: BinaryIO | None = None,
    ) -> Ran:
        self._check()
        self.execs += 1
        started = time.monotonic()
        home = str(self._home)
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            cwd=self._files / (cwd or ""),
            env={"PATH": os.environ["PATH"], "HOME": home, "TMPDIR": home, **(env or {})},
            start_new_session=True,
        )
        self._running.add(process.pid)
        output = Output(spool)
        reading = asyncio.ensure_future(_converse(process, input, output))
        try:
            _, late = await asyncio.wait({reading}, timeout=timeout_seconds)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await reading
            status = await process.wait()
            self._running.discard(process.pid)
        return Ran(
            status=status if status >= 0 else 128 - status,
            head=bytes(output.head),
            tail=bytes(output.tail),
            output_bytes=output.bytes,
            seconds=time.monotonic() - started,
            timed_out=bool(late),
        )

    async def read_file(self, path: str, *, max_bytes: int) -> bytes:
        place = self._place(path)
        try:
            content = place.read_bytes()
        except OSError as error:
            raise FileRefused(f"{path}: {error.strerror}.", hint="Look at it.") from None
        if len(content) > max_bytes:
            raise FileRefused(f"{path} is too large.", hint="Read a part of it.")
        return content

    async def write_file(self, path: str, content: bytes) -> None:
        place = self._place(path)
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
        except OSError as error:
            raise FileRefused(f"{path}: {error.strerror}.", hint="Look at it.") from None

    async def pull(self, folder: Path) -> None:
        self._check()
        await asyncio.to_thread(_copy, self._files, folder)

    async def push(self, folder: Path) -> None:
        self._check()
        await asyncio.to_thread(_copy, folder, self._files)

    async def kill_all(self) -> None:
        for pid in self._running:
            with suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)

    async def health(self) -> Health:
        return "ok" if self._files.is_dir() else "its folder is gone"

    def contacts(self) -> list[Contact]:
        return []

    async def close(self) -> None:
        shutil.rmtree(self._home, ignore_errors=True)

    def _check(self) -> None:
        if not self._files.is_dir():
            raise SandboxLost("The sandbox is gone.", hint="Open another.")

    def _place(self, path: str) -> Path:
        self._check()
        place = (self._files / path).resolve()
        if not place.is_relative_to(self._files.resolve()):
            raise FileRefused(f"{path} lies outside the workspace.", hint="Stay inside.")
        return place


class Output:
    """What a command wrote, cut as a sandbox cuts it."""

    def __init__(self, spool: BinaryIO | None) -> None:
        self.head = bytearray()
        self.tail = bytearray()
        self.bytes = 0
        self._spool = spool

    def take(self, chunk: bytes) -> None:
        if self._spool and self.bytes < SPOOL_BYTES:
            self._spool.write(chunk[: SPOOL_BYTES - self.bytes])
        self.bytes += len(chunk)
        room = HEAD_BYTES - len(self.head)
        self.head += chunk[:room]
        self.tail = (self.tail + chunk[room:])[-TAIL_BYTES:]


async def _converse(process: asyncio.subprocess.Process, input: bytes, output: Output) -> None:
    assert process.stdin and process.stdout
    with suppress(BrokenPipeError, ConnectionResetError):
        process.stdin.write(input)
        await process.stdin.drain()
    process.stdin.close()
    while chunk := await process.stdout.read(1 << 16):
        output.take(chunk)
    await process.wait()


def _copy(source: Path, target: Path) -> None:
    """Make a folder equal to another; a file that is the same is not touched."""
    for path in [*target.iterdir()]:
        if not os.path.lexists(source / path.name):
            _remove(path)
    for path in [*source.iterdir()]:
        if path.name == ".git":
            continue
        other = target / path.name
        if path.is_symlink() or path.is_file():
            _copy_file(path, other)
        elif path.is_dir():
            if other.is_symlink() or not other.is_dir():
                _remove(other)
                other.mkdir()
            _copy(path, other)


def _copy_file(path: Path, other: Path) -> None:
    if _same(path, other):
        return
    _remove(other)
    shutil.copy2(path, other, follow_symlinks=False)


def _same(one: Path, two: Path) -> bool:
    if not os.path.lexists(two):
        return False
    a, b = one.lstat(), two.lstat()
    if (a.st_mode, a.st_size) != (b.st_mode, b.st_size):
        return False
    if one.is_symlink():
        return one.readlink() == two.readlink()
    return one.read_bytes() == two.read_bytes()


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
