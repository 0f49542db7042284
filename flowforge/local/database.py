"""FlowForge's own PostgreSQL: one server, a database and a role each for Prefect, ledger and shop.

It listens on loopback with random passwords, and beside that on a socket in a folder only its
owner may enter.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import psycopg
from psycopg.sql import SQL, Identifier, Literal

from flowforge.engines.postgres import identity, installations
from flowforge.engines.postgres.cluster import SUPERUSER, Cluster
from flowforge.engines.postgres.installations import Installation
from flowforge.errors import Refused
from flowforge.local.state import State, StateFolder

DATABASES = ("prefect", "flowforge", "shop")
AGENTS = "agents"
"""The role of those who run agent jobs: it has no database, and may only use the journal's."""

_LONGEST_SOCKET_FOLDER_BYTES = 85
_SETTINGS: Mapping[str, str] = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_permissions": "0700",
    "password_encryption": "scram-sha-256",
    "shared_buffers": "64MB",
    "max_connections": "80",
    "max_locks_per_transaction": "256",  # a dump of thousands of tables locks each of them
    "max_wal_size": "512MB",
    "min_wal_size": "80MB",
    "jit": "off",
    "max_parallel_workers_per_gather": "0",
    "log_line_prefix": "%m [%p] %d ",
    "log_checkpoints": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
}


@dataclass(frozen=True)
class OwnPostgres:
    """The server of one state folder."""

    folder: StateFolder
    cluster: Cluster
    passwords: Mapping[str, str]

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self.cluster.port

    def url(self, role: str, database: str | None = None) -> str:
        """How a role enters a database, with its password."""
        password = quote(self.passwords[role], safe="")
        return f"postgresql://{role}:{password}@127.0.0.1:{self.port}/{quote(database or role)}"

    def create(self) -> bool:
        """Make the data folder if there is none; return whether it was made.

        Raises:
            Refused: PostgreSQL cannot run here.
        """
        if (self.cluster.data / "PG_VERSION").exists():
            return False
        # Under another name until it is whole: an interrupted one is thrown away, never served.
        unfinished = self.cluster.data.with_name("postgres.new")
        shutil.rmtree(unfinished, ignore_errors=True)
        shutil.rmtree(self.cluster.data, ignore_errors=True)
        passing = Cluster(self.cluster.installation, unfinished, self.cluster.socket_folder)
        passing.create(self.passwords[SUPERUSER])
        unfinished.rename(self.cluster.data)
        return True

    def is_ready(self) -> bool:
        """Whether it lets us in."""
        try:
            self._enter("postgres").close()
        except psycopg.OperationalError:
            return False
        return True

    def furnish(self) -> None:
        """Make the roles and databases that are not there; set every password."""
        with self._enter("postgres") as session:
            roles = {row[0] for row in session.execute("SELECT rolname FROM pg_roles")}
            databases = {row[0] for row in session.execute("SELECT datname FROM pg_database")}
            for name in DATABASES:
                self._furnish_role(session, name, is_new=name not in roles)
                if name not in databases:
                    session.execute(
                        SQL("CREATE DATABASE {} OWNER {}").format(
                            Identifier(name), Identifier(name)
                        )
                    )
                session.execute(
                    SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(Identifier(name))
                )
            self._furnish_role(session, AGENTS, is_new=AGENTS not in roles)
            session.execute(
                SQL("GRANT CONNECT ON DATABASE flowforge TO {}").format(Identifier(AGENTS))
            )

    def drop_rehearsals(self, name: str) -> None:
        """Drop what earlier tours restored under a name, and what was kept when they did."""
        with self._enter("postgres") as session:
            found = session.execute(
                "SELECT datname FROM pg_database WHERE datname = %s OR starts_with(datname, %s)",
                (name, f"{name}__before_"),
            ).fetchall()
            for (database,) in found:
                statement = SQL("DROP DATABASE {} WITH (FORCE)")
                session.execute(statement.format(Identifier(str(database))))

    def _furnish_role(
        self, session: psycopg.Connection[tuple[object, ...]], name: str, *, is_new: bool
    ) -> None:
        # The password travels hashed, so that no log of statements can hold it.
        hashed = session.pgconn.encrypt_password(
            self.passwords[name].encode(), name.encode(), b"scram-sha-256"
        ).decode()
        verb = SQL("CREATE ROLE") if is_new else SQL("ALTER ROLE")
        session.execute(
            SQL("{} {} LOGIN {} PASSWORD {}").format(
                verb,
                Identifier(name),
                # A restore makes a side database, so the shop's role must be able to.
                SQL("CREATEDB" if name == "shop" else "NOCREATEDB"),
                Literal(hashed),
            )
        )

    def _enter(self, database: str) -> psycopg.Connection[tuple[object, ...]]:
        return psycopg.connect(
            host="127.0.0.1",
            port=self.port,
            user=SUPERUSER,
            password=self.passwords[SUPERUSER],
            dbname=database,
            autocommit=True,
            connect_timeout=5,
        )


def own_postgres(folder: StateFolder, state: State, passwords: Mapping[str, str]) -> OwnPostgres:
    """Describe the server of a state folder.

    Raises:
        Refused: No server programs are here, or the data is of another major version.
    """
    sockets = Path(state.socket_folder) if state.socket_folder else folder.path / "run"
    cluster = Cluster(
        choose_installation(folder),
        data=folder.postgres,
        socket_folder=sockets,
        port=state.ports["postgres"],
        settings=_SETTINGS,
    )
    return OwnPostgres(folder, cluster, passwords)


def data_major(folder: StateFolder) -> int | None:
    """The major version the data folder was made by; `None` when there is none."""
    try:
        return int((folder.postgres / "PG_VERSION").read_text().strip())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None


def choose_installation(folder: StateFolder) -> Installation:
    """Choose the programs: those of the data's major version, for new data the newest.

    Raises:
        Refused: There are none that fit.
    """
    major = data_major(folder)
    if major is None:
        return installations.newest_server()
    found = [i for i in installations.find_installations() if i.has_server]
    fitting = [i for i in found if i.major == major]
    if not fitting:
        have = ", ".join(f"{i.version} ({i.source})" for i in found) or "none"
        raise Refused(
            f"The databases in {folder.postgres} are of PostgreSQL {major}; "
            f"the server programs here are {have}.",
            hint=f"Set FLOWFORGE_POSTGRES_BIN to the programs of PostgreSQL {major}, or start anew "
            "with `flowforge down --forget`.",
        )
    return fitting[0]


def make_socket_folder(folder: StateFolder) -> str | None:
    """Make the private folder of the socket; return its path when it is not in the state folder.

    Raises:
        Refused: The account that runs PostgreSQL cannot reach it.
    """
    inside = folder.path / "run"
    fits = len(os.fsencode(inside)) <= _LONGEST_SOCKET_FOLDER_BYTES
    made = inside if fits else Path(tempfile.mkdtemp(prefix="ff-", dir="/tmp"))
    made.mkdir(mode=0o700, exist_ok=True)
    who = identity.choose_identity()
    if who.owner is not None:
        folder.path.chmod(0o711)  # passed through, not read: each thing in it is still private
    who.take_over(made)
    return None if fits else str(made)
