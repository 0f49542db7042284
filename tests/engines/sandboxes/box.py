"""A sandbox that a test without an event loop can use."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from flowforge.engines.sandboxes.sandbox import Provider, Ran, Sandbox
from flowforge.rules.jobs.spec import SandboxChoice

SMALL = SandboxChoice(memory_mb=256, disk_mb=64)
Result = TypeVar("Result")


@dataclass
class Box:
    """One open sandbox and the loop it lives in."""

    runner: asyncio.Runner
    provider: Provider
    sandbox: Sandbox

    def wait(self, coroutine: Coroutine[Any, Any, Result]) -> Result:
        return self.runner.run(coroutine)

    def sh(self, script: str, seconds: float = 20, **more: Any) -> Ran:
        argv = ["bash", "-c", script]
        return self.wait(self.sandbox.exec(argv, timeout_seconds=seconds, **more))

    def says(self, script: str, seconds: float = 20) -> str:
        ran = self.sh(script, seconds)
        return (ran.head + ran.tail).decode(errors="replace").strip()

    def read(self, path: str, most: int = 1_000_000) -> bytes:
        return self.wait(self.sandbox.read_file(path, max_bytes=most))

    def write(self, path: str, content: bytes) -> None:
        self.wait(self.sandbox.write_file(path, content))

    def pull(self, folder: Path) -> Path:
        folder.mkdir(exist_ok=True)
        self.wait(self.sandbox.pull(folder))
        return folder

    def push(self, folder: Path) -> None:
        self.wait(self.sandbox.push(folder))

    def clean(self) -> bool:
        """Make it as new; false when it cannot be used any more."""
        if self.wait(self.sandbox.health()) != "ok":
            return False
        self.wait(self.sandbox.kill_all())
        everything = "find . /tmp /dev/shm -mindepth 1"
        return (
            self.sh(f"chmod -R u+rwx . && {everything} -delete && ! {everything} | grep .").status
            == 0
        )


def entries(folder: Path) -> dict[str, tuple[str, int, bytes]]:
    """Everything in a folder: kind, mode, content or target."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name, mode = str(path.relative_to(folder)), path.lstat().st_mode & 0o777
        if path.is_symlink():
            found[name] = ("link", 0, str(path.readlink()).encode())
        elif path.is_dir():
            found[name] = ("folder", mode, b"")
        else:
            found[name] = ("file", mode, path.read_bytes())
    return found
