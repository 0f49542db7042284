"""One Prefect server a session, and blocks that point at scratch systems."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings
from prefect.testing.utilities import prefect_test_harness

from blocks.postgres import PostgresServer
from blocks.storage import BackupStore
from flowforge import ledger
from flowforge.engines.postgres import installations
from flowforge.engines.postgres.cluster import scratch_server
from flowforge.engines.postgres.connection import connect
from flowforge.rules.addresses import PostgresAddress


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[None]:
    # Most of a short run would be spent ending the heartbeat's thread.
    with (
        prefect_test_harness(server_startup_timeout=120),
        temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}),
    ):
        yield


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresAddress]:
    with scratch_server(installations.newest_server()) as address:
        with connect(address, "postgres") as session:
            session.execute("CREATE DATABASE ledger")
        yield address


@pytest.fixture(scope="session")
def ledger_url(postgres: PostgresAddress) -> Iterator[str]:
    url = f"postgresql://{postgres.user}@/ledger?host={postgres.host}&port={postgres.port}"
    ledger.migrate(url)
    before = os.environ.get("FLOWFORGE_LEDGER_URL")
    os.environ["FLOWFORGE_LEDGER_URL"] = url
    yield url
    if before is None:
        del os.environ["FLOWFORGE_LEDGER_URL"]
    else:
        os.environ["FLOWFORGE_LEDGER_URL"] = before


@pytest.fixture
def shop(
    prefect_server: None, postgres: PostgresAddress, ledger_url: str, tmp_path: Path
) -> Iterator[PostgresAddress]:
    """A server block `shop` with a small database `app`, and a store block `backups`."""
    with connect(postgres, "postgres") as session:
        session.execute("CREATE DATABASE app")
    address = postgres.model_copy(update={"name": "shop", "database": "app"})
    with connect(address) as session:
        session.execute("SET search_path TO public")
        session.execute("CREATE TABLE orders (id int PRIMARY KEY, total numeric, note text)")
        session.execute(
            "INSERT INTO orders SELECT g, g * 1.5, 'n' || g FROM generate_series(1, 500) g"
        )
    PostgresServer.of(address).save("shop", overwrite=True)
    (tmp_path / "backups").mkdir()
    BackupStore(folder=str(tmp_path / "backups")).save("backups", overwrite=True)
    yield address
    with connect(postgres, "postgres") as session:
        rows = session.execute(
            "SELECT datname FROM pg_database WHERE datname LIKE 'app%'"
        ).fetchall()
        for (name,) in rows:
            session.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
