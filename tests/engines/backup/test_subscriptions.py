"""A database that is subscribed to another one can be restored, and goes when it is to go."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest

from flowforge.engines.backup.dumping import dump
from flowforge.engines.backup.loading import databases
from flowforge.engines.backup.restoring import keeping, restore
from flowforge.engines.backup.shelf import catalogue
from flowforge.engines.backup.stores.folder import FolderStore
from flowforge.engines.postgres import connection, installations
from flowforge.errors import Refused
from flowforge.rules.addresses import PostgresAddress
from flowforge.rules.restores import RestorePlan
from tests.engines.backup.test_faults import run

SUBSCRIBE = """
CREATE SUBSCRIPTION "a feed" CONNECTION 'host=/nowhere dbname=x' PUBLICATION p
  WITH (connect = false, slot_name = 'feed')
"""
AT_ONCE = timedelta(0)
RESTORE = """
import sys
from pathlib import Path
from flowforge.engines.backup.restoring import restore
from flowforge.engines.backup.shelf import catalogue
from flowforge.engines.backup.stores.folder import FolderStore
from flowforge.rules.addresses import PostgresAddress
from flowforge.rules.restores import RestorePlan
address = PostgresAddress.model_validate_json(sys.argv[1])
store = FolderStore("backups", Path(sys.argv[2]))
(copy,) = catalogue.list_copies(store, address.name, address.database)
manifest = catalogue.load_manifest(store, copy.server, copy.database, copy.name)
plan = restore.plan(store, manifest, copy, address, "app")
restore.apply(store, manifest, address, plan, sys.argv[3])
"""


@pytest.fixture
def source(database: Callable[..., PostgresAddress]) -> Iterator[PostgresAddress]:
    address = database("CREATE TABLE t AS SELECT 1 AS a")
    do(address, "app", SUBSCRIBE)
    yield address
    with connection.connect(address, "postgres") as session:
        for name in subscribed(address):
            do(address, name, 'ALTER SUBSCRIPTION "a feed" DISABLE')
            databases.drop(session, address, name)


def do(address: PostgresAddress, database: str, *statements: str) -> None:
    with connection.connect(address, database) as session:
        for statement in statements:
            session.execute(statement.encode())


def subscribed(address: PostgresAddress) -> list[str]:
    """Names of the databases with a subscription."""
    with connection.connect(address, "postgres") as session:
        found = session.execute(
            "SELECT datname FROM pg_subscription s JOIN pg_database d ON d.oid = subdbid ORDER BY 1"
        )
        return [name for (name,) in found.fetchall()]


def plan(store: FolderStore, address: PostgresAddress) -> RestorePlan:
    (copy,) = catalogue.list_copies(store, "shop", "app")
    manifest = catalogue.load_manifest(store, "shop", "app", copy.name)
    return restore.plan(store, manifest, copy, address, "app")


def test_a_killed_restore_of_a_subscribed_database_is_finished_by_the_next(
    source: PostgresAddress, store: FolderStore
) -> None:
    dump.take_copy(source, "app", store)
    agreed = plan(store, source).digest
    assert run(RESTORE, source, store, "load", agreed) == -9
    assert len(subscribed(source)) == 2

    assert run(RESTORE, source, store, "", agreed) == 0

    (kept,) = keeping.list_kept(source)
    assert subscribed(source) == ["app", kept.name]
    keeping.drop_kept(source, [(kept.name, kept.oid)], older_than=AT_ONCE)
    assert subscribed(source) == ["app"]


def test_a_kept_database_that_still_receives_stays_until_the_commands_of_the_hint_were_given(
    source: PostgresAddress, store: FolderStore
) -> None:
    manifest = dump.take_copy(source, "app", store)
    do(source, "app", 'ALTER SUBSCRIPTION "a feed" ENABLE')
    made = plan(store, source)
    restore.apply(store, manifest, source, made, made.digest)
    (kept,) = keeping.list_kept(source)

    with pytest.raises(Refused, match="still receives by its subscription 'a feed'") as caught:
        keeping.drop_kept(source, [(kept.name, kept.oid)], older_than=AT_ONCE)
    commands, _, rest = caught.value.hint.partition("; then again.")
    assert "SELECT pg_drop_replication_slot('feed');" in rest
    program, *words = shlex.split(commands)
    assert program == "psql"
    psql = installations.for_server(18).program("psql")
    environment = connection.client_environment(source, kept.name)
    subprocess.run([psql, *words], env=environment, check=True, capture_output=True)

    keeping.drop_kept(source, [(kept.name, kept.oid)], older_than=AT_ONCE)
    assert subscribed(source) == ["app"]
