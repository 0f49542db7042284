"""A restore killed at any of its steps is finished by the next run, which leaves nothing behind."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from flowforge.engines.backup import steps
from flowforge.engines.backup.dumping import dump
from flowforge.engines.backup.restoring import restore, tables
from flowforge.engines.backup.shelf import catalogue
from flowforge.engines.backup.stores.folder import FolderStore
from flowforge.engines.postgres import connection
from flowforge.rules.addresses import PostgresAddress
from flowforge.rules.masks import Mask
from tests.engines.backup.test_faults import CLEAN, leftovers, run, some_now

Database = Callable[..., PostgresAddress]
SMALL = (
    "CREATE TABLE t AS SELECT g AS id, 'name ' || g AS v FROM generate_series(1, 1000) g;"
    "CREATE INDEX ON t (id); CREATE SEQUENCE s; SELECT lo_from_bytea(1, 'x')"
)
MASK = Mask(table="t", column="v", expression="'nobody'")

_HEAD = """
import sys
from pathlib import Path
from flowforge.engines.backup.restoring import restore, tables
from flowforge.engines.backup.shelf import catalogue
from flowforge.engines.backup.stores.folder import FolderStore
from flowforge.rules.addresses import PostgresAddress
from flowforge.rules.masks import Mask
address = PostgresAddress.model_validate_json(sys.argv[1])
store = FolderStore("backups", Path(sys.argv[2]))
copy = catalogue.list_copies(store, address.name, address.database)[-1]
manifest = catalogue.load_manifest(store, copy.server, copy.database, copy.name)
"""
CLONE = f"""{_HEAD}
masks = [Mask.model_validate_json({MASK.model_dump_json()!r})]
plan = restore.plan(store, manifest, copy, address, "app clone", masks=masks)
restore.apply(store, manifest, address, plan, sys.argv[3])
"""
TABLES = f"""{_HEAD}
plan = tables.plan(store, manifest, copy, address, "app", ["t"])
tables.apply(store, manifest, address, plan, sys.argv[3])
"""


def value(address: PostgresAddress, database: str, sql: str) -> object:
    with connection.connect(address, database) as session:
        row = session.execute(sql.encode()).fetchone()
        return row[0] if row else None


@pytest.mark.parametrize("step", some_now(steps.RESTORE_CLONE))
def test_a_clone_killed_at_any_step_is_never_seen_unmasked_and_is_finished_by_the_next_run(
    database: Database, store: FolderStore, step: str
) -> None:
    source = database(SMALL)
    manifest = dump.take_copy(source, "app", store)
    (copy,) = catalogue.list_copies(store, "shop", "app")
    agreed = restore.plan(store, manifest, copy, source, "app clone", masks=[MASK]).digest
    assert run(CLONE, source, store, step, agreed) == -9
    exists = value(source, "postgres", "SELECT 1 FROM pg_database WHERE datname = 'app clone'")
    assert (exists == 1) == (step == "swap")
    assert run(CLONE, source, store, "", agreed) == 0
    assert leftovers(source, store) == CLEAN
    assert value(source, "app clone", "SELECT count(*) FROM public.t WHERE v = 'nobody'") == 1000


@pytest.mark.parametrize("step", some_now(steps.RESTORE_TABLES, "tables"))
def test_a_restore_of_tables_killed_at_any_step_shows_them_whole_or_not_and_the_next_is_clean(
    database: Database, store: FolderStore, step: str
) -> None:
    source = database(SMALL)
    manifest = dump.take_copy(source, "app", store)
    (copy,) = catalogue.list_copies(store, "shop", "app")
    made = tables.plan(store, manifest, copy, source, "app", ["t"])
    assert run(TABLES, source, store, step, made.digest) == -9
    seen = value(source, "app", f"SELECT to_regclass('{made.schema_name}.t')::text")
    assert (seen is not None) == (step == "tables")
    assert run(TABLES, source, store, "", made.digest) == 0
    assert leftovers(source, store) == CLEAN
    assert value(source, "app", f"SELECT count(*) FROM {made.schema_name}.t") == 1000
    assert value(source, "app", "SELECT count(*) FROM public.t") == 1000
