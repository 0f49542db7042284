"""A journal for the tests of the brain; they keep apart by tenants and accounts of their own."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from flowforge import ledger
from flowforge.engines.postgres import installations
from flowforge.engines.postgres.connection import connect
from flowforge.engines.sandboxes.local import LocalProvider
from flowforge.rules.addresses import PostgresAddress
from tests.ledger.conftest import url_of


@pytest.fixture(scope="session")
def journal_url(server: Callable[[int], PostgresAddress]) -> str:
    address = server(installations.newest_server().major)
    with connect(address, "postgres") as session:
        session.execute(b"CREATE DATABASE journal_of_agents")
    url = url_of(address, "journal_of_agents")
    ledger.migrate(url)
    return url


@pytest.fixture
def local() -> LocalProvider:
    provider = LocalProvider()
    if missing := provider.why_not():
        pytest.skip(str(missing))
    return provider
