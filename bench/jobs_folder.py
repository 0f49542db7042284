"""A sandbox that is a plain folder: what is left is the cost of the loop, the journal and Git."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from flowforge.engines.sandboxes.captured import Captured
from flowforge.engines.sandboxes.contacts import Contact
from flowforge.engines.sandboxes.sandbox import Ran, Sandbox
from flowforge.rules.jobs.spec import SandboxChoice

_PIECE = 64 * 1024


class Folder:
    """Commands run here as they would in any shell; nothing holds them."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._files = root / "files"
        self._groups: set[int] = set()
        self.id, self.workspace = root.name, str(self._files)

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
        began, captured = time.monotonic(), Captured(spool)
        process = await asyncio.create_subprocess_exec(
            *argv,
            cwd=self._files / (cwd or "."),
            env={"PATH": os.environ["PATH"], "TMPDIR": str(self._root), **(env or {})},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
        self._groups.add(process.pid)
        assert process.stdin is not None
        assert process.stdout is not None
        async with asyncio.timeout(timeout_seconds):
            process.stdin.write(input)
            process.stdin.close()
            while piece := await process.stdout.read(_PIECE):
                captured.add(piece)
            status = await process.wait()
        self._groups.discard(process.pid)
        seconds = time.monotonic() - began
        return Ran(status, captured.head, captured.tail, captured.size, seconds)

    async def read_file(self, path: str, *, max_bytes: int) -> bytes:
        return (self._files / path).read_bytes()[:max_bytes]

    async def write_file(self, path: str, content: bytes) -> None:
        (self._files / path).write_bytes(content)

    async def pull(self, folder: Path) -> None:
        await asyncio.to_thread(_mirror, self._files, folder)

    async def push(self, folder: Path) -> None:
        await asyncio.to_thread(_mirror, folder, self._files)

    async def kill_all(self) -> None:
        for group in self._groups:
            os.killpg(group, signal.SIGKILL)

    async def health(self) -> str:
        return "ok"

    def contacts(self) -> list[Contact]:
        return []

    async def close(self) -> None:
        await self.kill_all()
        await asyncio.to_thread(shutil.rmtree, self._root, ignore_errors=True)


class Folders:
    """Makes such folders."""

    kind = "folder"

    def why_not(self) -> None:
        return None

    async def open(self, job: str, fence: int, choice: SandboxChoice) -> Sandbox:
        root = Path(tempfile.mkdtemp(prefix="ff-bench-"))
        (root / "files").mkdir()
        return Folder(root)

    async def list_open(self) -> list[tuple[str, int, str]]:
        return []

    async def remove(self, sandbox_id: str) -> None:
        shutil.rmtree(Path(tempfile.gettempdir()) / sandbox_id, ignore_errors=True)


def _mirror(source: Path, target: Path) -> None:
    """Make a folder equal to another one; files that look unchanged are left alone."""
    wanted = {path.relative_to(source) for path in source.rglob("*")}
    for path in sorted(target.rglob("*"), reverse=True):
        if path.relative_to(target) not in wanted:
            path.rmdir() if path.is_dir() else path.unlink()
    for name in sorted(wanted):
        here, there = source / name, target / name
        if here.is_dir():
            there.mkdir(exist_ok=True)
        elif not there.exists() or _looks(here) != _looks(there):
            shutil.copy2(here, there)


def _looks(path: Path) -> tuple[int, int]:
    about = path.stat()
    return about.st_size, about.st_mtime_ns
