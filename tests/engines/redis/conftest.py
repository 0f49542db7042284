"""Real Redis servers, each with the settings a test wants."""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydantic import SecretStr

from flowforge.engines.backup.stores.folder import FolderStore
from flowforge.engines.redis import connection
from flowforge.errors import FlowForgeError
from flowforge.rules.redis_addresses import RedisAddress
from tests.ports import free_port


@dataclass(frozen=True)
class Running:
    """A server and how to enter it."""

    address: RedisAddress
    process: subprocess.Popen[bytes]

    def do(self, *lines: str, database: int = 0) -> list[object]:
        """Send commands, one a line, and return their answers."""
        with connection.connect(self.address, database=database) as session:
            return [session.execute_command(*line.split()) for line in lines]


Start = Callable[..., Running]


def programs_at_hand() -> None:
    """Skip where Redis is not installed."""
    if not all(map(shutil.which, ("redis-server", "redis-cli", "redis-check-rdb"))):
        pytest.skip("Redis is not here: apt install redis-server redis-tools")


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a Redis; further words are its settings."""
    programs_at_hand()
    running: list[subprocess.Popen[bytes]] = []

    def make(*settings: str, name: str = "cache", password: str = "", tls: bool = False) -> Running:
        folder = tmp_path / f"redis-{len(running)}"
        folder.mkdir()
        port = free_port()
        ports = ["--port", "0", "--tls-port", str(port)] if tls else ["--port", str(port)]
        command = ["redis-server", "--bind", "127.0.0.1", *ports, "--save", ""]
        # A source waits five seconds for more replicas unless it is told not to.
        command += ["--dir", str(folder), "--repl-diskless-sync-delay", "0"]
        command += ["--enable-debug-command", "yes", *settings]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
        running.append(process)
        address = RedisAddress(
            name=name,
            host="127.0.0.1",
            port=port,
            password=SecretStr(password),
        )
        _wait_for_port(port, process, folder / "log")
        return Running(address, process)

    yield make
    for process in running:
        process.send_signal(signal.SIGKILL)
        process.wait()


def _wait_for_port(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    anybody = RedisAddress(name="starting", host="127.0.0.1", port=port)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        if "eady to accept connections" in log.read_text():
            return
        with contextlib.suppress(FlowForgeError), connection.connect(anybody) as session:
            session.execute_command("PING")
            return
        time.sleep(0.02)
    raise AssertionError(log.read_text())


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore("backups", tmp_path / "back ups")


FILL = (
    "SET plain value",
    "SET counted 12345",
    "SET soon x PX 60000000",
    "RPUSH queue a b c",
    "SADD set a b c",
    "ZADD ranks 1 a 2 b",
    "HSET hash a 1 b 2",
    "XADD events * kind order",
    "XGROUP CREATE events workers 0",
)


@pytest.fixture
def source(start: Start) -> Running:
    """A Redis with a little of everything, in two of its databases."""
    running = start()
    running.do(*FILL)
    running.do("HSET session user 1", "SET brief x EX 1000", database=3)
    return running
