"""Whose database a name is: the live one, the kept one, another's; and who may drop which."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from flowforge.engines.backup.dumping import dump
from flowforge.engines.backup.loading import databases
from flowforge.engines.backup.restoring import keeping, restore
from flowforge.engines.backup.stores.folder import FolderStore
from flowforge.engines.postgres import connection
from flowforge.errors import Refused, Unavailable
from flowforge.rules.addresses import PostgresAddress
from flowforge.rules.backups import Manifest
from tests.engines.backup.restores import do, names, plan, run

Database = Callable[..., PostgresAddress]
SOURCE = """
CREATE TABLE t (id int PRIMARY KEY, v text);
INSERT INTO t SELECT g, 'v' || g FROM generate_series(1, 1000) g;
"""


@pytest.fixture
def source(database: Database) -> PostgresAddress:
    return database(SOURCE)


@pytest.fixture
def manifest(source: PostgresAddress, store: FolderStore) -> Manifest:
    return dump.take_copy(source, "app", store)


@pytest.mark.slow  # PostgreSQL itself waits five seconds for sessions to end
def test_a_database_that_stays_busy_is_given_back_after_a_few_tries(
    source: PostgresAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(source, "postgres", "DROP DATABASE IF EXISTS app_side", "CREATE DATABASE app_side")
    monkeypatch.setattr(databases, "CLOSE_TRIES", 1)
    with (
        connection.connect(source, "postgres") as session,
        connection.connect(source, "app_side"),  # somebody is in the one that shall be renamed
        pytest.raises(Unavailable, match="kept 'app' busy"),
    ):
        databases.swap(
            session,
            "app",
            [databases.rename("app", "app_old"), databases.rename("app_side", "app")],
        )
    assert names(source) == {"app", "app_side"}
    assert run(source, "app", "SELECT count(*) FROM public.t") == 1000


def test_whoever_took_the_name_the_live_one_would_be_kept_under_is_never_dropped(
    source: PostgresAddress, manifest: Manifest, store: FolderStore
) -> None:
    kept_as = plan(store, manifest, source).kept_as
    run(source, "postgres", f'CREATE DATABASE "{kept_as}"')
    with pytest.raises(Refused, match=f"{kept_as}.*is not FlowForge's"):
        do(store, manifest, source)
    assert names(source) == {"app", kept_as}


def test_a_database_of_the_side_database_s_name_is_only_ours_when_nothing_was_made_in_it(
    source: PostgresAddress, manifest: Manifest, store: FolderStore
) -> None:
    side = plan(store, manifest, source).side_database
    run(source, "postgres", f"CREATE DATABASE {side}")
    for made, undone in (
        ("CREATE SCHEMA mine", "DROP SCHEMA mine"),
        ("SELECT lo_create(7)", "SELECT lo_unlink(7)"),
        ("CREATE TYPE public.mine AS ENUM ()", "DROP TYPE public.mine"),
    ):
        run(source, side, made)
        assert any("FlowForge's" in o for o in plan(store, manifest, source).obstacles)
        run(source, side, undone)
        assert plan(store, manifest, source).obstacles == ()
    run(source, "postgres", f"ALTER DATABASE {side} ALLOW_CONNECTIONS false")
    assert any("FlowForge's" in o for o in plan(store, manifest, source).obstacles)


def test_what_a_killed_restore_left_is_dropped_by_the_next_one_whatever_copy_that_is_of(
    source: PostgresAddress, manifest: Manifest, store: FolderStore
) -> None:
    run(
        source,
        "postgres",
        "CREATE DATABASE app__restore_20200101000000",
        "COMMENT ON DATABASE app__restore_20200101000000"
        " IS 'flowforge: side database of restore 20200101-000000-0123456789ab to app'",
        "CREATE DATABASE app__restore_20200102000000",
    )
    done = do(store, manifest, source)
    assert names(source) == {"app", done.kept_as, "app__restore_20200102000000"}


def test_too_little_room_on_the_server_is_an_obstacle_and_is_known_before(
    source: PostgresAddress, manifest: Manifest, store: FolderStore
) -> None:
    assert plan(store, manifest, source).target.free_bytes
    huge = manifest.database.model_copy(update={"size_bytes": 1 << 60})
    made = plan(store, manifest.model_copy(update={"database": huge}), source)
    assert any("bytes free, the restore needs" in obstacle for obstacle in made.obstacles)


def test_the_restored_database_has_the_rights_and_limits_of_the_one_it_replaces(
    source: PostgresAddress, manifest: Manifest, store: FolderStore
) -> None:
    run(
        source,
        "postgres",
        "DROP ROLE IF EXISTS clerk",
        "DROP ROLE IF EXISTS boss",
        "CREATE ROLE clerk",
        "CREATE ROLE boss",
        "ALTER DATABASE app OWNER TO boss",
        "REVOKE ALL ON DATABASE app FROM PUBLIC",
        "GRANT CONNECT ON DATABASE app TO clerk WITH GRANT OPTION",
        "ALTER DATABASE app CONNECTION LIMIT 7",
        "ALTER ROLE clerk IN DATABASE app SET work_mem TO '9MB'",
    )
    asked = (
        "SELECT concat_ws(' ', pg_get_userbyid(datdba), array_to_string(datacl, ' '), datconnlimit,"
        " (SELECT string_agg(array_to_string(setconfig, ' '), ' ') FROM pg_db_role_setting"
        "   WHERE setdatabase = d.oid AND setrole <> 0))"
        " FROM pg_database d WHERE datname = 'app'"
    )
    before = run(source, "postgres", asked)
    done = do(store, manifest, source)
    assert run(source, "postgres", asked) == before
    run(
        source,
        "postgres",
        "DROP DATABASE app WITH (FORCE)",
        f'DROP DATABASE "{done.kept_as}" WITH (FORCE)',
        "DROP ROLE clerk",
        "DROP ROLE boss",
    )


def test_a_kept_database_goes_only_by_name_and_number_and_only_after_a_week(
    source: PostgresAddress, manifest: Manifest, store: FolderStore
) -> None:
    done = do(store, manifest, source)
    (kept,) = keeping.list_kept(source)
    assert (kept.name, kept.restore_id) == (done.kept_as, done.restore_id)
    assert kept.size_bytes > 0
    with pytest.raises(Refused, match="has been kept since"):
        keeping.drop_kept(source, [(kept.name, kept.oid)])
    for name, oid in (("app", kept.oid), (kept.name, kept.oid + 1)):
        with pytest.raises(Refused, match="is kept from before a restore"):
            keeping.drop_kept(source, [(name, oid)], older_than=timedelta(0))
    assert names(source) == {"app", kept.name}
    keeping.drop_kept(source, [(kept.name, kept.oid)], older_than=timedelta(0))
    assert names(source) == {"app"}
    with pytest.raises(Refused, match="keeps no database"):
        restore.undo(source, "app", done.restore_id)
