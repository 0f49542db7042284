"""A PostgreSQL server run from programs on this disk: made, started, waited for.

Two users: the local platform, which keeps one for years, and a proof, which wants one for seconds.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from pydantic import SecretStr

from flowforge.engines.postgres import guard, identity
from flowforge.engines.postgres.installations import Installation
from flowforge.errors import Refused, Unavailable
from flowforge.rules.addresses import PostgresAddress

SUPERUSER = "postgres"
_INIT_TIMEOUT_SECONDS = 120
_START_TIMEOUT_SECONDS = 60

_SCRATCH_SETTINGS: Mapping[str, str] = {
    # A scratch server is thrown away: durability would only cost time.
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "4GB",
    "shared_buffers": "64MB",
    "maintenance_work_mem": "128MB",
    "max_connections": "20",
    "max_locks_per_transaction": "1024",
    "autovacuum": "off",
    "listen_addresses": "",
}


@dataclass(frozen=True)
class Cluster:
    """One data folder and the programs that serve it."""

    installation: Installation
    data: Path
    socket_folder: Path
    """A folder only the owner may enter; its path must stay under 90 bytes."""

    port: int = 5432
    settings: Mapping[str, str] = field(default_factory=dict)

    def create(self, password: str | None = None) -> None:
        """Make the data folder: UTF-8, locale C, scram with `password`, or socket-only trust.

        Raises:
            Refused: PostgreSQL cannot run here, or the folder is not usable.
        """
        who = identity.choose_identity()
        self.data.mkdir(mode=0o700, parents=True, exist_ok=True)
        if who.owner is not None:
            who.take_over(self.socket_folder)  # first: the data folder may be in it
        who.take_over(self.data)
        command = [*who.prefix, self.installation.program("initdb"), "-D", str(self.data)]
        command += ["-U", SUPERUSER, "-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions"]
        command += (
            ["--auth=trust"]
            if password is None
            else ["--auth=scram-sha-256", "--pwfile=/dev/stdin"]
        )
        with tempfile.TemporaryFile() as told:
            if who.owner is not None:
                os.fchown(told.fileno(), who.owner, -1)  # initdb opens it anew, by its own right
            told.write((password or "").encode())
            told.seek(0)
            made = subprocess.run(
                command,
                stdin=told,
                capture_output=True,
                text=True,
                timeout=_INIT_TIMEOUT_SECONDS,
                check=False,
            )
        if made.returncode != 0:
            raise Refused(
                f"initdb could not make {self.data}: {made.stderr.strip()[-500:]}",
                hint="Free the disk or choose another FLOWFORGE_STATE, then try again.",
            )

    def start_command(self) -> list[str]:
        """The command that serves the data folder in the foreground until it is stopped."""
        command = [*identity.choose_identity().daemon_prefix, self.installation.program("postgres")]
        command += ["-D", str(self.data), "-k", str(self.socket_folder), "-p", str(self.port)]
        for name, value in self.settings.items():
            command += ["-c", f"{name}={value}"]
        return command

    def address(self, name: str, password: str = "") -> PostgresAddress:
        """The superuser's address of this server, by its socket."""
        return PostgresAddress(
            name=name,
            host=str(self.socket_folder),
            port=self.port,
            user=SUPERUSER,
            password=SecretStr(password),
        )


def wait_until_ready(
    address: PostgresAddress,
    process: subprocess.Popen[bytes],
    seconds: float = _START_TIMEOUT_SECONDS,
) -> None:
    """Wait until a starting server answers.

    Raises:
        Unavailable: It ended, or did not answer in time.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        with contextlib.suppress(psycopg.OperationalError):
            psycopg.connect(
                host=address.host,
                port=address.port,
                user=address.user,
                password=address.password.get_secret_value(),
                dbname="postgres",
                connect_timeout=5,
            ).close()
            return
        time.sleep(0.02)
    raise Unavailable(
        "The PostgreSQL server did not start.",
        hint="Read its log; a full disk or a folder of another major version are usual causes.",
        exit_status=process.poll(),
    )


@contextlib.contextmanager
def scratch_server(
    installation: Installation,
    parent: Path | None = None,
    settings: Mapping[str, str] = _SCRATCH_SETTINGS,
) -> Iterator[PostgresAddress]:
    """Run an empty server for as long as the block lasts, reachable by its owner alone.

    It is stopped and deleted when the block ends and also when this process is killed.

    Args:
        installation: The programs to run it from.
        parent: Folder to make it in; by default the system's temporary folder.
        settings: Of PostgreSQL; by default fast ones, that do not outlast a crash.
    """
    root = Path(tempfile.mkdtemp(prefix="ff-pg-", dir=parent))
    sockets = Path(tempfile.mkdtemp(prefix="ff-s-")) if len(os.fsencode(root)) > 80 else root
    cluster = Cluster(
        installation,
        data=root / "data",
        socket_folder=sockets,
        port=5432,
        settings=settings,
    )
    address = cluster.address(f"scratch-{secrets.token_hex(4)}")
    command = [sys.executable, "-S", "-E", str(Path(guard.__file__)), str(root)]
    try:
        cluster.create()
        with (root / "log").open("wb") as log:
            process = subprocess.Popen(
                [*command, *cluster.start_command()],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,  # what kills our whole group must not kill the guard
            )
    except BaseException:
        _remove(root, sockets)
        raise
    try:
        wait_until_ready(address, process)
        yield address
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.wait(timeout=30)
        _remove(root, sockets)


def _remove(*folders: Path) -> None:
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
