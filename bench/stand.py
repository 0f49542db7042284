"""A Prefect server, its pools and workers, for as long as a measurement or a test lasts."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psycopg

from flowforge.engines.postgres import installations
from flowforge.engines.postgres.cluster import scratch_server

QUERY_SECONDS = 1.0
_START_SECONDS = 120


@dataclass
class Stand:
    """A running server and what was started for it."""

    folder: Path
    api_url: str
    processes: contextlib.ExitStack
    http: httpx.Client = field(init=False)

    def __post_init__(self) -> None:
        self.http = httpx.Client(base_url=self.api_url, timeout=30, trust_env=False)

    @property
    def environment(self) -> dict[str, str]:
        """What a worker of this server is given."""
        return {
            **{name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ},
            "PREFECT_API_URL": self.api_url,
            "PREFECT_HOME": str(self.folder / "home"),
            "PREFECT_WORKER_QUERY_SECONDS": str(QUERY_SECONDS),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "FLOWFORGE_STATE": str(self.folder / "state"),
        }

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """Call the API and return what it answers."""
        answer = self.http.post(path, json=body)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def start(self, name: str, *arguments: str, **environment: str) -> subprocess.Popen[bytes]:
        """Start a Python module in the background; its output goes to `NAME.log`."""
        log = self.processes.enter_context((self.folder / f"{name}.log").open("ab"))
        process = subprocess.Popen(
            [sys.executable, "-m", *arguments],
            env={**self.environment, **environment},
            cwd=Path(__file__).parent.parent,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        self.processes.callback(stop, process)
        return process

    def start_worker(self, pool: str, command: str | None) -> subprocess.Popen[bytes]:
        """Make a process pool whose runs start by `command`, with a worker that listens."""
        template = {
            "job_configuration": {
                "command": "{{ command }}",
                "env": "{{ env }}",
                "working_dir": "{{ working_dir }}",
            },
            "variables": {
                "type": "object",
                "properties": {
                    "command": {"type": "string", "default": command},
                    "env": {"type": "object"},
                    "working_dir": {"type": "string"},
                },
            },
        }
        body = {"name": pool, "type": "process", "base_job_template": template}
        self.post("/work_pools/", body)
        arguments = ("prefect", "worker", "start", "--pool", pool, "--type", "process")
        return self.start(pool, *arguments)

    def wait_for_worker(self, pool: str) -> None:
        """Wait until the pool's worker has told the server that it is there."""
        wait_until(
            lambda: bool(self.post(f"/work_pools/{pool}/workers/filter", {})), _START_SECONDS
        )

    def deploy(self, name: str, entrypoint: str, pool: str, folder: Path) -> str:
        """Deploy a flow of a file and return the deployment's id."""
        flow = self.post("/flows/", {"name": name})
        step = {"prefect.deployments.steps.set_working_directory": {"directory": str(folder)}}
        deployment = self.post(
            "/deployments/",
            {
                "name": pool,
                "flow_id": flow["id"],
                "entrypoint": entrypoint,
                "pull_steps": [step],
                "work_pool_name": pool,
            },
        )
        return str(deployment["id"])

    def run(self, deployment: str, **body: Any) -> str:
        """Start a run and return its id."""
        created = self.post(f"/deployments/{deployment}/create_flow_run", body)
        return str(created["id"])

    def state(self, run: str) -> dict[str, Any]:
        """The state a run is in."""
        answer = self.http.get(f"/flow_runs/{run}")
        answer.raise_for_status()
        state: dict[str, Any] = answer.json()["state"]
        return state

    def wait_for_state(self, run: str, *types: str, seconds: float = 60) -> dict[str, Any]:
        """Wait until a run is in one of these states, and return that."""
        wait_until(lambda: self.state(run)["type"] in types, seconds)
        return self.state(run)


@contextlib.contextmanager
def open_stand(folder: Path) -> Iterator[Stand]:
    """Start a Prefect server on a scratch PostgreSQL, reachable on a free port."""
    postgres = next(i for i in installations.find_installations() if i.has_server)
    with contextlib.ExitStack() as processes:
        address = processes.enter_context(scratch_server(postgres))
        with psycopg.connect(
            host=address.host, port=address.port, user=address.user, autocommit=True
        ) as connection:
            connection.execute("CREATE DATABASE prefect")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        stand = Stand(folder, f"http://127.0.0.1:{port}/api", processes)
        processes.callback(stand.http.close)
        server = stand.start(
            *("server", "prefect", "server", "start", "--port", str(port)),
            PREFECT_SERVER_DATABASE_CONNECTION_URL=(
                f"postgresql+asyncpg://{address.user}@/prefect?host={address.host}&port={address.port}"
            ),
        )
        wait_until(lambda: is_healthy(stand, server), _START_SECONDS)
        yield stand


def is_healthy(stand: Stand, server: subprocess.Popen[bytes]) -> bool:
    """Whether the server answers; it must not have ended."""
    if server.poll() is not None:
        raise RuntimeError((stand.folder / "server.log").read_text()[-2000:])
    with contextlib.suppress(httpx.TransportError):
        return stand.http.get("/health").is_success
    return False


def wait_until(condition: Callable[[], bool], seconds: float) -> None:
    """Ask until the answer is yes.

    Raises:
        TimeoutError: It was not within `seconds`.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds} s")
        time.sleep(0.02)


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a process that was started here, gently at first."""
    process.terminate()
    try:
        process.wait(timeout=15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
