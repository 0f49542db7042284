from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote

import pytest
import sqlalchemy as sa

from flowforge import ledger
from flowforge.engines.postgres import installations
from flowforge.engines.postgres.cluster import scratch_server
from flowforge.ledger import tables
from flowforge.rules.addresses import PostgresAddress


def url_of(address: PostgresAddress, database: str = "postgres", user: str | None = None) -> str:
    host = quote(address.host, safe="")
    return f"postgresql://{user or address.user}@/{database}?host={host}&port={address.port}"


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresAddress]:
    with scratch_server(installations.newest_server()) as address:
        yield address


@pytest.fixture(scope="session")
def ledger_url(postgres: PostgresAddress) -> str:
    url = url_of(postgres)
    ledger.migrate(url)
    return url


@pytest.fixture
def engine(ledger_url: str) -> Iterator[sa.Engine]:
    engine = ledger.connect(ledger_url)
    with engine.begin() as connection:
        for table in tables.metadata.sorted_tables:
            connection.execute(sa.delete(table))
    yield engine
    engine.dispose()


@pytest.fixture
def empty_url(postgres: PostgresAddress) -> Iterator[str]:
    """A database nobody has migrated."""
    admin = sa.create_engine(
        f"postgresql+psycopg://{postgres.user}@/postgres?host={postgres.host}&port={postgres.port}",
        isolation_level="AUTOCOMMIT",
    )
    with admin.connect() as connection:
        connection.execute(sa.text("CREATE DATABASE empty"))
    yield url_of(postgres, "empty")
    with admin.connect() as connection:
        connection.execute(sa.text("DROP DATABASE empty WITH (FORCE)"))
    admin.dispose()
