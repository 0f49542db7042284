"""The real server as a process, on free ports, and a PostgreSQL that can be stopped under it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import httpx

from flowforge.engines.postgres import guard
from flowforge.engines.postgres.cluster import Cluster, wait_until_ready
from flowforge.rules.addresses import PostgresAddress
from tests.ports import free_port

START_SECONDS = 120.0


def url_of(address: PostgresAddress, database: str = "postgres") -> str:
    host = quote(address.host, safe="")
    return f"postgresql://{address.user}@/{database}?host={host}&port={address.port}"


def wait_for(condition: Callable[[], bool], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen within {seconds:.0f} s"
        time.sleep(0.05)


@dataclass
class Running:
    """One server process."""

    process: subprocess.Popen[bytes]
    log: Path
    api_port: int
    ui_port: int
    metrics_port: int
    database_url: str | None
    client: httpx.Client = field(default_factory=lambda: httpx.Client(timeout=30, trust_env=False))

    @property
    def api(self) -> str:
        return f"http://127.0.0.1:{self.api_port}"

    @property
    def ui(self) -> str:
        return f"http://127.0.0.1:{self.ui_port}"

    def get(self, url: str, **options: object) -> httpx.Response:
        return self.client.get(url, **options)  # type: ignore[arg-type]

    def post(self, path: str, body: object = None) -> httpx.Response:
        return self.client.post(f"{self.api}/api{path}", json=body if body is not None else {})

    def readiness(self) -> tuple[int, dict[str, object]]:
        try:
            answer = self.get(f"{self.api}/ready")
        except httpx.TransportError:
            return 0, {}
        return answer.status_code, answer.json()

    def metric(self, name: str) -> float:
        text = self.get(f"http://127.0.0.1:{self.metrics_port}/metrics").text
        lines = [line for line in text.splitlines() if line.startswith(name)]
        return sum(float(line.rpartition(" ")[2]) for line in lines)

    def wait_until_ready(self) -> None:
        def is_ready() -> bool:
            assert self.process.poll() is None, self.log.read_text()
            return self.readiness()[0] == 200

        wait_for(is_ready, START_SECONDS, "being ready")

    def stop(self) -> int:
        self.client.close()
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=30)


def start(
    folder: Path, database_url: str | None, *, ports: list[int] | None = None, **more: str
) -> Running:
    folder.mkdir(parents=True, exist_ok=True)
    api, ui, metrics = ports or [free_port() for _ in range(3)]
    environment: Mapping[str, str] = {
        **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
        **({"DATABASE_URL": database_url} if database_url else {}),
        "PREFECT_HOME": str(folder / "prefect"),
        "FLOWFORGE_STATE": str(folder / "state"),
        "FLOWFORGE_API_PORT": str(api),
        "FLOWFORGE_UI_PORT": str(ui),
        "FLOWFORGE_METRICS_PORT": str(metrics),
        **more,
    }
    log = folder / "server.log"
    with log.open("wb") as sink:
        process = subprocess.Popen(
            [sys.executable, "-m", "flowforge.server"], env=environment, stdout=sink, stderr=sink
        )
    return Running(process, log, api, ui, metrics, database_url)


@contextlib.contextmanager
def running(folder: Path, database_url: str | None, **more: str) -> Iterator[Running]:
    server = start(folder, database_url, ports=None, **more)
    try:
        server.wait_until_ready()
        yield server
    finally:
        if server.process.poll() is None:
            server.stop()


@dataclass
class Switchable:
    """A PostgreSQL that a test turns off, on and to ice."""

    cluster: Cluster
    process: subprocess.Popen[bytes] | None = None

    def on(self) -> None:
        command = [sys.executable, "-S", "-E", str(Path(guard.__file__)), "-"]
        self.process = subprocess.Popen(
            [*command, *self.cluster.start_command()],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_until_ready(self.cluster.address("switchable"), self.process)

    def off(self) -> None:
        if self.process is not None and self.process.stdin is not None:
            self.process.stdin.close()
            self.process.wait(timeout=30)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the server and to every session of it."""
        leader = int((self.cluster.data / "postmaster.pid").read_text().split()[0])
        sessions = Path(f"/proc/{leader}/task/{leader}/children").read_text().split()
        for pid in (leader, *map(int, sessions)):
            os.kill(pid, number)
