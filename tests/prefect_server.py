"""A real Prefect server on a scratch PostgreSQL: one for all tests of a session that ask for it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest

from flowforge.engines.postgres import cluster, installations
from flowforge.rules.addresses import PostgresAddress
from tests.ports import free_port

START_SECONDS = 120
_KEPT = ("PATH", "HOME", "LANG", "TMPDIR", "FLOWFORGE_POSTGRES_BIN")
_URL = pytest.StashKey[str]()


def clean_environment(**more: str) -> dict[str, str]:
    """An environment for a child: what it needs to run, and what is given."""
    return {name: os.environ[name] for name in _KEPT if name in os.environ} | more


@contextmanager
def run_server(folder: Path) -> Iterator[str]:
    """Run a server while the block lasts, and give the address of its API."""
    with (
        cluster.scratch_server(installations.newest_server()) as address,
        run_server_on(folder, address, "postgres") as url,
    ):
        yield url


@contextmanager
def run_server_on(folder: Path, address: PostgresAddress, database: str) -> Iterator[str]:
    """Run a server on a database while the block lasts, and give the address of its API."""
    port = free_port()
    url = f"http://127.0.0.1:{port}/api"
    environment = clean_environment(
        PREFECT_HOME=str(folder),
        PREFECT_SERVER_ANALYTICS_ENABLED="false",
        PREFECT_SERVER_UI_ENABLED="false",
        PREFECT_UI_URL="http://ui.example",
        PREFECT_SERVER_DATABASE_CONNECTION_URL=(
            f"postgresql+asyncpg://{address.user}@/{database}?host={address.host}"
        ),
    )
    command = [sys.executable, "-m", "prefect", "server", "start"]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            command, env=environment, cwd=folder, stdout=log, stderr=log, start_new_session=True
        )
    try:
        _wait_until_healthy(url, process, folder / "server.log")
        yield url
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_healthy(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(f"{url}/health", timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.2)
    raise AssertionError(f"The Prefect server did not start: {log.read_text()[-2000:]}")


@pytest.fixture(scope="session")
def prefect_url(
    pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The API of the session's server; folders that import this fixture share one server."""
    if _URL not in pytestconfig.stash:
        stack = ExitStack()
        pytestconfig.add_cleanup(stack.close)
        folder = tmp_path_factory.mktemp("prefect")
        pytestconfig.stash[_URL] = stack.enter_context(run_server(folder))
    yield pytestconfig.stash[_URL]


def run_module(
    module: str,
    *arguments: str,
    url: str,
    environment: Mapping[str, str] | None = None,
    standard_input: str = "",
) -> subprocess.CompletedProcess[str]:
    """Run `python -m MODULE` as an operator would, against a server."""
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        env=clean_environment(PREFECT_API_URL=url, **(environment or {})),
        input=standard_input,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
