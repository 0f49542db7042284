"""What a restore meets in the wild: full disks, busy databases, other people's, changed copies."""

from __future__ import annotations

import gzip
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flowforge.engines.backup.dumping import dump
from flowforge.engines.backup.proving import proof
from flowforge.engines.backup.stores.folder import FolderStore
from flowforge.engines.postgres import connection, identity
from flowforge.errors import Damaged, FlowForgeError, Refused
from flowforge.rules.addresses import PostgresAddress
from flowforge.rules.backups import Manifest
from tests.engines.backup.restores import do, is_as_before, names, plan, run

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


@pytest.fixture
def small_tablespace(source: PostgresAddress, tmp_path: Path) -> Iterator[str]:
    """A tablespace of 1 MB, in which new tables are made."""
    if os.geteuid() != 0:
        pytest.skip("a full disk is a small tmpfs, which only root can mount: run as root")
    folder = Path(source.host) / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], check=True)
    who = identity.choose_identity()
    if who.owner is not None:
        os.chown(folder, who.owner, -1)
    run(
        source,
        "postgres",
        f"CREATE TABLESPACE small LOCATION '{folder}'",
        "ALTER ROLE postgres SET default_tablespace = small",
    )
    yield "small"
    run(
        source,
        "postgres",
        "ALTER ROLE postgres RESET default_tablespace",
        "DROP TABLESPACE small",
    )
    subprocess.run(["umount", str(folder)], check=True)
    folder.rmdir()


def test_a_disk_that_fills_during_a_restore_leaves_the_live_database_alone_and_nothing_beside_it(
    source: PostgresAddress, store: FolderStore, small_tablespace: str
) -> None:
    run(
        source,
        "app",
        "CREATE TABLE public.big TABLESPACE pg_default AS"
        " SELECT g, md5(g::text) AS v FROM generate_series(1, 60000) g",
    )
    manifest = dump.take_copy(source, "app", store)
    with pytest.raises(FlowForgeError, match="space") as told:
        do(store, manifest, source)
    assert "disk" in told.value.hint
    is_as_before(source)


def test_a_gzip_member_added_to_a_copy_is_refused_before_a_server_sees_it(
    source: PostgresAddress, manifest: Manifest, store: FolderStore
) -> None:
    (path,) = store.folder.rglob("backup-*.sql.gz")
    path.write_bytes(path.read_bytes() + gzip.compress(b"CREATE ROLE intruder SUPERUSER;\n"))
    with pytest.raises(Damaged, match="the store holds"):
        do(store, manifest, source)
    is_as_before(source)
    assert run(source, "postgres", "SELECT 1 FROM pg_roles WHERE rolname = 'intruder'") is None


@pytest.mark.parametrize("engine", ["members", "pg_dump"])
def test_text_put_in_the_place_of_other_text_is_refused_before_a_server_sees_it(
    source: PostgresAddress, store: FolderStore, engine: dump.Engine
) -> None:
    manifest = dump.take_copy(source, "app", store, engine=engine)
    (path,) = store.folder.rglob("backup-*.sql.gz")
    held = path.read_bytes()
    evil = gzip.compress(b"CREATE ROLE intruder SUPERUSER;\n")
    path.write_bytes(evil + held[len(evil) :])
    with pytest.raises(Damaged):
        do(store, manifest, source)
    is_as_before(source)
    assert run(source, "postgres", "SELECT 1 FROM pg_roles WHERE rolname = 'intruder'") is None


def test_a_restored_database_that_is_not_what_was_dumped_never_takes_the_live_one_s_place(
    source: PostgresAddress, manifest: Manifest, store: FolderStore
) -> None:
    other = tuple(
        table.model_copy(update={"digest": "0" * len(table.digest)}) for table in manifest.tables
    )
    with pytest.raises(Damaged, match=r"table public\.t: as many rows, other content"):
        do(store, manifest.model_copy(update={"tables": other}), source)
    is_as_before(source)


def test_a_locale_the_server_has_not_is_refused_and_leaves_nothing(
    source: PostgresAddress, manifest: Manifest, store: FolderStore
) -> None:
    elsewhere = manifest.database.model_copy(update={"collate": "xx_XX", "ctype": "xx_XX"})
    with pytest.raises(Refused, match="no locale 'xx_XX'"):
        do(store, manifest.model_copy(update={"database": elsewhere}), source)
    is_as_before(source)


def test_bytes_that_are_no_text_are_restored_as_they_were(
    database: Database, store: FolderStore
) -> None:
    source = database(
        "CREATE TABLE t (v text)",
        options="ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'",
    )
    with connection.connect(source) as session:
        session.execute("SET client_encoding TO 'SQL_ASCII'")
        session.execute(b"INSERT INTO public.t VALUES (E'\\xff\\xfe odd')")
    manifest = dump.take_copy(source, "app", store)
    do(store, manifest, source, "app again")
    assert run(source, "app again", "SELECT encode(v::bytea, 'hex') FROM public.t") == (
        "fffe206f6464"
    )


def test_a_session_that_keeps_coming_back_does_not_keep_a_restore_from_its_place(
    source: PostgresAddress, manifest: Manifest, store: FolderStore
) -> None:
    stop, entered = threading.Event(), []

    def keep_coming() -> None:
        while not stop.is_set():
            try:
                entered.append(run(source, "app", "SELECT pg_sleep(0.05)::text"))
            except Exception:  # noqa: BLE001  being thrown out is what it is here for
                continue

    application = threading.Thread(target=keep_coming)
    application.start()
    try:
        done = do(store, manifest, source)
    finally:
        stop.set()
        application.join()
    assert entered
    assert names(source) == {"app", done.kept_as}
    assert run(source, "app", "SELECT count(*) FROM public.t") == 1000


@pytest.fixture
def keeper(source: PostgresAddress) -> Iterator[PostgresAddress]:
    """A role that owns all of the database and is no superuser."""
    run(
        source,
        "app",
        "DROP ROLE IF EXISTS keeper",
        "CREATE ROLE keeper LOGIN CREATEDB",
        "ALTER DATABASE app OWNER TO keeper",
        "ALTER TABLE public.t OWNER TO keeper",
    )
    yield source.model_copy(update={"user": "keeper"})
    run(
        source,
        "postgres",
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'keeper'",
        *(f'DROP DATABASE "{name}" WITH (FORCE)' for name in names(source)),
        "DROP ROLE keeper",
    )


def test_a_session_that_may_not_be_ended_leaves_names_and_doors_as_they_were(
    source: PostgresAddress, keeper: PostgresAddress, store: FolderStore
) -> None:
    manifest = dump.take_copy(keeper, "app", store)
    with (
        connection.connect(source, "app"),  # a superuser's
        pytest.raises(Refused, match="may not end the sessions"),
    ):
        do(store, manifest, keeper)
    is_as_before(source)
    done = do(store, manifest, keeper)
    assert names(source) == {"app", done.kept_as}


def test_a_role_that_may_not_take_settings_over_is_told_which(
    source: PostgresAddress, keeper: PostgresAddress, store: FolderStore
) -> None:
    run(source, "postgres", "ALTER ROLE keeper IN DATABASE app SET work_mem TO '9MB'")
    manifest = dump.take_copy(keeper, "app", store)
    made = plan(store, manifest, keeper)
    assert any("settings of keeper" in warning for warning in made.warnings)
    assert made.obstacles == ()


def test_tables_of_a_tablespace_go_to_the_default_one_and_the_plan_says_so(
    source: PostgresAddress, store: FolderStore, small_tablespace: str
) -> None:
    run(source, "app", f"CREATE TABLE public.s TABLESPACE {small_tablespace} AS SELECT 1 AS a")
    manifest = dump.take_copy(source, "app", store)
    assert any(
        "small goes to the server's default" in w for w in plan(store, manifest, source).warnings
    )
    run(source, "postgres", "ALTER ROLE postgres RESET default_tablespace")
    do(store, manifest, source)
    where = "SELECT reltablespace::int FROM pg_class WHERE oid = 'public.s'::regclass"
    assert run(source, "app", where) == 0
    run(source, "postgres", *(f'DROP DATABASE "{name}" WITH (FORCE)' for name in names(source)))


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["pg_dump", "members"])
def test_a_copy_from_a_server_with_tablespaces_loads_where_there_are_none(
    engine: dump.Engine, database: Database, store: FolderStore, tmp_path: Path
) -> None:
    source = database()
    folder = Path(source.host) / "elsewhere"
    folder.mkdir(exist_ok=True)
    os.chown(folder, folder.parent.stat().st_uid, -1)
    run(source, "app", f"CREATE TABLESPACE elsewhere LOCATION '{folder}'")
    try:
        run(
            source,
            "app",
            "CREATE TABLE public.far (a int) TABLESPACE elsewhere",
            "INSERT INTO public.far VALUES (1)",
            "CREATE INDEX far_a ON public.far (a) TABLESPACE elsewhere",
            "CREATE MATERIALIZED VIEW public.seen TABLESPACE elsewhere AS SELECT * FROM public.far",
        )
        manifest = dump.take_copy(source, "app", store, engine=engine)
        found = proof.prove_by_restoring(store, manifest)
    finally:
        run(source, "postgres", "DROP DATABASE app WITH (FORCE)", "DROP TABLESPACE elsewhere")
    assert manifest.engine == engine
    assert manifest.database.tablespaces == ("elsewhere",)
    assert (found.cause, found.verdict, found.level) == (None, "proven", 3)
