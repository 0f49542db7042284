"""Start Prefect's server on a restored copy of its own database, and let it list its runs (L4).

It is a process of its own in an environment of its own: it listens on a socket only its owner may
enter, runs no service that schedules anything, and ends with the proof, however that ends.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import httpx

from flowforge.engines.postgres import connection, guard
from flowforge.rules.addresses import PostgresAddress
from flowforge.rules.backups import Manifest
from flowforge.rules.proofs import Answer, Verdict

QUESTION = "Prefect's server starts on the copy and lists its runs"
START_TIMEOUT_SECONDS = 180
_PAUSE_SECONDS = 0.1
_PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH")
_TABLES = frozenset({"public.flow_run", "public.flow_run_state", "public.alembic_version"})
_COUNT = "SELECT count(*) FROM public.flow_run"


def is_prefect(manifest: Manifest) -> bool:
    """Tell whether a copy is one of a Prefect server's database."""
    return {table.name for table in manifest.tables} >= _TABLES


def list_runs(address: PostgresAddress, database: str) -> Answer:
    """Start a server on a restored database and compare the runs it lists with those in the table.

    Args:
        address: A scratch server, entered as its superuser.
        database: The restored database; the server may change it.
    """
    clock = time.monotonic()
    with connection.connect(address, database) as session:
        row = session.execute(_COUNT).fetchone()
    expected = int(row[0]) if row else 0
    verdict: Verdict = "inconclusive"
    answer, cause = "", None
    with tempfile.TemporaryDirectory(prefix="ff-q-") as folder:
        try:
            with _server(Path(folder), address, database) as client:
                counted = client.post("/flow_runs/count", json={}).raise_for_status().json()
                page = client.post("/flow_runs/filter", json={"limit": 10}).raise_for_status()
            answer = f"{counted:,} runs"
            whole = counted == expected and len(page.json()) == min(10, expected)
            verdict = "proven" if whole else "failed"
        except _NotStarted as error:
            cause = str(error)
        except httpx.HTTPError as error:
            verdict, cause = "failed", f"it starts and does not list them: {error}"
    return Answer(
        name=QUESTION,
        verdict=verdict,
        answer=answer,
        expected=f"{expected:,} runs",
        cause=cause,
        seconds=round(time.monotonic() - clock, 3),
    )


class _NotStarted(Exception):
    """The server did not start here, which says nothing of the copy."""


@contextlib.contextmanager
def _server(folder: Path, address: PostgresAddress, database: str) -> Iterator[httpx.Client]:
    """Run a server for as long as the block lasts, and a client that talks to it."""
    path, log = folder / "s", folder / "log"
    command = [sys.executable, "-S", "-E", str(Path(guard.__file__)), "-"]
    command += [sys.executable, "-m", "uvicorn", "--factory", "--uds", str(path)]
    command += ["--log-level", "error", "prefect.server.api.server:create_app"]
    with log.open("wb") as said:
        process = subprocess.Popen(
            command,
            cwd=folder,  # no configuration file of ours is found from there
            env=_environment(folder, address, database),
            stdin=subprocess.PIPE,
            stdout=said,
            stderr=said,
            start_new_session=True,
        )
    assert process.stdin is not None
    try:
        transport = httpx.HTTPTransport(uds=str(path))
        with httpx.Client(transport=transport, base_url="http://copy/api", timeout=60) as client:
            _wait(path, process, log)
            yield client
    finally:
        process.stdin.close()
        process.wait(timeout=30)


def _wait(path: Path, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    while time.monotonic() < deadline:
        with socket.socket(socket.AF_UNIX) as door, contextlib.suppress(OSError):
            door.connect(str(path))  # it listens once the application is up
            return
        if process.poll() is not None:
            raise _NotStarted(_why(log.read_text("utf-8", "replace")))
        time.sleep(_PAUSE_SECONDS)
    raise _NotStarted(f"the server did not start within {START_TIMEOUT_SECONDS} s")


def _why(log: str) -> str:
    """Why a server ended at its start: what this machine lacks, or its last words."""
    if "No module named" in log:
        return "Prefect is not installed here"
    if "Can't locate revision" in log:
        return "the copy is of a newer Prefect than the one installed here"
    lines = [line for line in log.splitlines() if line.strip()]
    return f"the server ended at its start: {lines[-1][:200] if lines else 'without a word'}"


def _environment(folder: Path, address: PostgresAddress, database: str) -> dict[str, str]:
    url = (
        f"postgresql+asyncpg://{quote(address.user, safe='')}@/{quote(database, safe='')}"
        f"?host={quote(address.host, safe='')}&port={address.port}"
    )
    return {name: os.environ[name] for name in _PASSED_ON if name in os.environ} | {
        "PREFECT_API_DATABASE_CONNECTION_URL": url,
        "PREFECT_HOME": str(folder),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "0",
        "PREFECT_SERVER_UI_ENABLED": "0",
        "PREFECT__SERVER_WEBSERVER_ONLY": "1",
    }
