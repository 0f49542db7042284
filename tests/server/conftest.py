from __future__ import annotations

from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from flowforge import ledger
from flowforge.engines.postgres import installations
from flowforge.engines.postgres.cluster import Cluster, scratch_server
from tests.server import running
from tests.server.running import Running, Switchable

SECRET = "only the two of us"


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One server for all tests that only ask it things; copies older than an hour are stale."""
    with scratch_server(installations.newest_server()) as postgres:
        url = running.url_of(postgres)
        folder = tmp_path_factory.mktemp("server")
        told = {"FLOWFORGE_COPY_MAX_AGE_SECONDS": "3600", "FLOWFORGE_WEBHOOK_SECRET": SECRET}
        with running.running(folder, url, **told) as started:
            yield started


@pytest.fixture
def books(server: Running) -> Iterator[sa.Engine]:
    assert server.database_url is not None
    engine = ledger.connect(server.database_url)
    yield engine
    engine.dispose()


@pytest.fixture
def switchable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Switchable]:
    folder = tmp_path_factory.mktemp("pg")
    cluster = Cluster(
        installations.newest_server(),
        folder / "data",
        folder,
        settings={"listen_addresses": "", "fsync": "off"},
    )
    cluster.create()
    postgres = Switchable(cluster)
    postgres.on()
    yield postgres
    postgres.off()
