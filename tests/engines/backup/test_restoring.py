from __future__ import annotations

from collections.abc import Callable

import pytest

from flowforge.engines.backup.dumping import dump
from flowforge.engines.backup.loading import databases
from flowforge.engines.backup.restoring import restore
from flowforge.engines.backup.shelf import catalogue
from flowforge.engines.backup.stores.folder import FolderStore
from flowforge.engines.postgres import connection
from flowforge.errors import Refused
from flowforge.rules.addresses import PostgresAddress
from flowforge.rules.backups import Manifest
from flowforge.rules.restores import RestorePlan

Database = Callable[..., PostgresAddress]

SOURCE = """
CREATE TABLE t (id int PRIMARY KEY, v text);
INSERT INTO t SELECT g, 'v' || g FROM generate_series(1, 100) g;
"""


@pytest.fixture
def source(database: Database) -> PostgresAddress:
    return database(SOURCE)


@pytest.fixture
def manifest(source: PostgresAddress, store: FolderStore) -> Manifest:
    return dump.take_copy(source, "app", store)


def plan(
    store: FolderStore, manifest: Manifest, address: PostgresAddress, to: str = "app"
) -> RestorePlan:
    (copy,) = catalogue.list_copies(store, "shop", "app")
    return restore.plan(store, manifest, copy, address, to)


def ask(address: PostgresAddress, database: str, sql: str) -> object:
    with connection.connect(address, database) as session:
        row = session.execute(sql.encode()).fetchone()
        return row[0] if row else None


def names(address: PostgresAddress) -> set[str]:
    with connection.connect(address, "postgres") as session:
        rows = session.execute("SELECT datname FROM pg_database WHERE datname LIKE 'app%'")
        return {name for (name,) in rows.fetchall()}


def test_a_restore_takes_the_live_one_s_place_and_keeps_it(
    source: PostgresAddress, manifest: Manifest, store: FolderStore
) -> None:
    with connection.connect(source, "postgres") as session:
        session.execute("COMMENT ON DATABASE app IS 'the shop'")
        session.execute('ALTER DATABASE app SET search_path TO "$user", public')
    ask(source, "app", "DELETE FROM public.t WHERE id > 10 RETURNING 1")
    made = plan(store, manifest, source)
    assert made.obstacles == ()
    assert names(source) == {"app"}

    done = restore.apply(store, manifest, source, made, made.digest)

    assert done.kept_as is not None
    assert names(source) == {"app", done.kept_as}
    assert ask(source, "app", "SELECT count(*) FROM public.t") == 100
    assert ask(source, done.kept_as, "SELECT count(*) FROM public.t") == 10
    with connection.connect(source, "postgres") as session:
        assert databases.comment(session, "app") == "the shop"


def test_an_undone_restore_is_as_if_it_had_not_been_and_can_be_done_again(
    source: PostgresAddress, manifest: Manifest, store: FolderStore
) -> None:
    ask(source, "app", "DELETE FROM public.t WHERE id > 10 RETURNING 1")
    for _ in range(2):
        made = plan(store, manifest, source)
        done = restore.apply(store, manifest, source, made, made.digest)
        assert ask(source, "app", "SELECT count(*) FROM public.t") == 100
        restore.undo(source, "app", done.restore_id)
        assert ask(source, "app", "SELECT count(*) FROM public.t") == 10
    with pytest.raises(Refused, match="keeps no database"):
        restore.undo(source, "app", done.restore_id)


def test_an_applied_plan_is_not_applied_twice(
    source: PostgresAddress, manifest: Manifest, store: FolderStore
) -> None:
    made = plan(store, manifest, source)
    first = restore.apply(store, manifest, source, made, made.digest)
    ask(source, "app", "INSERT INTO public.t VALUES (1000, 'new') RETURNING 1")
    again = restore.apply(store, manifest, source, plan(store, manifest, source), made.digest)
    assert (again.restore_id, again.compared) == (first.restore_id, None)
    assert ask(source, "app", "SELECT count(*) FROM public.t") == 101


def test_a_copy_is_restored_beside_the_live_one(
    source: PostgresAddress, manifest: Manifest, store: FolderStore
) -> None:
    made = plan(store, manifest, source, to="app beside")
    assert made.kept_as is None
    done = restore.apply(store, manifest, source, made, made.digest)
    assert done.kept_as is None
    assert names(source) == {"app", "app beside"}
    assert ask(source, "app beside", "SELECT count(*) FROM public.t") == 100


def test_a_plan_that_was_not_agreed_to_is_refused(
    source: PostgresAddress, manifest: Manifest, store: FolderStore
) -> None:
    made = plan(store, manifest, source)
    for agreed, said in ((None, "No plan was agreed to"), ("0123456789ab", "not 0123456789ab")):
        with pytest.raises(Refused, match=said):
            restore.apply(store, manifest, source, made, agreed)
    assert names(source) == {"app"}


def test_a_plan_made_before_the_target_was_replaced_is_refused(
    source: PostgresAddress, manifest: Manifest, store: FolderStore
) -> None:
    before = plan(store, manifest, source)
    with connection.connect(source, "postgres") as session:
        session.execute("DROP DATABASE app WITH (FORCE)")
        session.execute("CREATE DATABASE app")
    with pytest.raises(Refused, match="has changed"):
        restore.apply(store, manifest, source, plan(store, manifest, source), before.digest)


def test_a_side_database_somebody_else_made_is_never_dropped(
    source: PostgresAddress, manifest: Manifest, store: FolderStore
) -> None:
    side = plan(store, manifest, source).side_database
    with connection.connect(source, "postgres") as session:
        session.execute(f'CREATE DATABASE "{side}"')
    with connection.connect(source, side) as session:
        session.execute("CREATE TABLE public.mine AS SELECT 1 AS a")
    made = plan(store, manifest, source)
    assert any("is not FlowForge's" in obstacle for obstacle in made.obstacles)
    with pytest.raises(Refused, match="is not FlowForge's"):
        restore.apply(store, manifest, source, made, made.digest)
    assert ask(source, side, "SELECT a FROM public.mine") == 1


def test_a_role_that_may_not_is_told_so_in_the_plan(
    source: PostgresAddress, manifest: Manifest, store: FolderStore
) -> None:
    with connection.connect(source, "postgres") as session:
        session.execute("DROP ROLE IF EXISTS weak")
        session.execute("CREATE ROLE weak LOGIN")
    made = plan(store, manifest, source.model_copy(update={"user": "weak"}))
    assert any("may not create databases" in obstacle for obstacle in made.obstacles)
    assert any("does not own 'app'" in obstacle for obstacle in made.obstacles)


def test_missing_roles_are_named_with_the_statement_that_makes_them(
    database: Database, store: FolderStore
) -> None:
    source = database(SOURCE)
    with connection.connect(source) as session:
        session.execute("DROP ROLE IF EXISTS clerk")
        session.execute("CREATE ROLE clerk")
        session.execute("GRANT SELECT ON public.t TO clerk")
    manifest = dump.take_copy(source, "app", store)
    with connection.connect(source) as session:
        session.execute("DROP OWNED BY clerk")
        session.execute("DROP ROLE clerk")
    made = plan(store, manifest, source)
    assert any('CREATE ROLE "clerk" NOLOGIN;' in obstacle for obstacle in made.obstacles)


def test_a_copy_of_a_newer_server_is_refused_by_an_older_one(
    source: PostgresAddress, manifest: Manifest, store: FolderStore, database: Database
) -> None:
    older = database(major=15)
    made = plan(store, manifest, older)
    assert any("PostgreSQL 18" in obstacle for obstacle in made.obstacles)


def test_a_copy_is_restored_to_another_server(database: Database, store: FolderStore) -> None:
    source = database(SOURCE, major=15)
    manifest = dump.take_copy(source, "app", store)
    target = database(major=18, name="app elsewhere")
    made = plan(store, manifest, target, to="app new")
    restore.apply(store, manifest, target, made, made.digest)
    assert ask(target, "app new", "SELECT count(*) FROM public.t") == 100
