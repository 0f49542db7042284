"""A database that was renamed does not begin a new row of copies unnoticed."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from flowforge.engines.backup.dumping import dump
from flowforge.engines.backup.shelf import renames
from flowforge.engines.backup.stores.folder import FolderStore
from flowforge.engines.postgres import connection
from flowforge.errors import Refused
from flowforge.rules.addresses import PostgresAddress

Database = Callable[..., PostgresAddress]


def test_a_renamed_database_is_refused_until_the_change_is_confirmed(
    database: Database, store: FolderStore
) -> None:
    source = database("CREATE TABLE t (id int)")
    renames.check(store_with(store), source, "app")
    dump.take_copy(source, "app", store)
    renames.check(store, source, "app")
    with connection.connect(source, "postgres") as session:
        session.execute('ALTER DATABASE app RENAME TO "app 2"')

    with pytest.raises(Refused, match="was called 'app'") as refused:
        renames.check(store, source, "app 2")
    assert "renamed_from='app'" in refused.value.hint
    with pytest.raises(Refused, match="was called 'app'"):
        renames.check(store, source, "app 2", renamed_from="apple")
    renames.check(store, source, "app 2", renamed_from="app")
    dump.take_copy(source, "app 2", store)
    renames.check(store, source, "app 2")


def test_a_new_database_under_an_old_name_is_no_renamed_one(
    database: Database, store: FolderStore
) -> None:
    source = database()
    dump.take_copy(source, "app", store)
    with connection.connect(source, "postgres") as session:
        session.execute("DROP DATABASE app")
        session.execute("CREATE DATABASE app TEMPLATE template0")
    renames.check(store, source, "app")
    assert [p.name for p in store.folder.rglob("*.manifest.json")]


def store_with(store: FolderStore) -> FolderStore:
    """The store, with its folder there and empty."""
    store.folder.mkdir(exist_ok=True)
    return store
