from __future__ import annotations

from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from flowforge import ledger
from flowforge.ledger import job_tables
from flowforge.rules.addresses import PostgresAddress
from tests.ledger.conftest import url_of


@pytest.fixture(scope="session")
def journal_url(postgres: PostgresAddress) -> str:
    """A database of its own: the tests of the catalogue empty every table of theirs."""
    admin = sa.create_engine(
        f"postgresql+psycopg://{postgres.user}@/postgres?host={postgres.host}&port={postgres.port}",
        isolation_level="AUTOCOMMIT",
    )
    with admin.connect() as connection:
        connection.execute(sa.text("CREATE DATABASE journal"))
    admin.dispose()
    url = url_of(postgres, "journal")
    ledger.migrate(url)
    return url


@pytest.fixture
def url(journal_url: str) -> Iterator[str]:
    """The journal without anything in it but the prices."""
    engine = ledger.connect(journal_url)
    with engine.begin() as connection:
        for table in (
            job_tables.jobs,
            job_tables.blobs,
            job_tables.budgets,
            job_tables.spending,
            job_tables.buckets,
            job_tables.breakers,
        ):
            connection.execute(sa.delete(table))
    engine.dispose()
    yield journal_url
