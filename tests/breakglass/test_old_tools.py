"""A `psql` from before the word `\\restrict` is found out before it is sent anything."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from flowforge.engines.backup.dumping.dump import take_copy
from flowforge.engines.backup.loading import loading
from flowforge.engines.backup.proving import proof
from flowforge.engines.backup.stores.folder import FolderStore
from flowforge.engines.postgres import installations
from flowforge.engines.postgres.connection import connect
from flowforge.errors import Refused
from flowforge.rules.addresses import PostgresAddress

Database = Callable[..., PostgresAddress]


def test_a_psql_too_old_for_the_copy_is_refused_and_nothing_is_loaded(
    database: Database, store: FolderStore
) -> None:
    manifest = take_copy(database("CREATE TABLE t (id int)"), "app", store)
    target = database(name="app2")
    old = dataclasses.replace(installations.for_server(18), major=17, version="17.5")
    with pytest.raises(Refused, match=r"psql 17\.5 does not know") as refused:
        loading.load(store, manifest, old, target, "app2")
    assert "17.6 or newer" in refused.value.hint
    with connect(target) as session:
        assert session.execute("SELECT to_regclass('public.t')").fetchone() == (None,)


def test_a_proof_with_such_a_psql_says_nothing_of_the_copy(
    database: Database, store: FolderStore
) -> None:
    manifest = take_copy(database("CREATE TABLE t (id int)"), "app", store)
    old = dataclasses.replace(installations.for_server(18), major=17, version="17.5")
    found = proof.prove_by_restoring(store, manifest, installation=old)
    assert found.verdict == "inconclusive"
    assert "does not know" in str(found.cause)
