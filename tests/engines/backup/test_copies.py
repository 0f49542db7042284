from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from flowforge.engines.backup.dumping import dump
from flowforge.engines.backup.proving import examining, proof
from flowforge.engines.backup.shelf import catalogue
from flowforge.engines.backup.stores.folder import FolderStore
from flowforge.engines.postgres import connection, installations
from flowforge.errors import Refused
from flowforge.rules import names
from flowforge.rules.addresses import PostgresAddress
from flowforge.rules.backups import Level, Manifest

Database = Callable[..., PostgresAddress]
ODD_SCHEMA = (Path(__file__).parent / "odd_schema.sql").read_text()
ODD_NAME = 'o\'dd "db"\n$(id);é../x'


def plain_dump(address: PostgresAddress, major: int) -> str:
    """`pg_dump` of a database, without what differs from run to run."""
    tools = installations.for_server(major)
    text = subprocess.run(
        [tools.program("pg_dump"), "--no-password"],
        env=connection.client_environment(address, address.database),
        capture_output=True,
        check=True,
    ).stdout.decode("utf-8", "backslashreplace")
    return re.sub(r"(?m)^\\(un)?restrict .*$", "", text)


def restore_plainly(store: FolderStore, manifest: Manifest, target: PostgresAddress) -> None:
    """What the README tells: `gunzip -c FILE | psql`."""
    tools = installations.for_server(manifest.server.major)
    file = store.folder / manifest.data.key
    unpacked = subprocess.Popen(["gunzip", "-c", str(file)], stdout=subprocess.PIPE)
    assert unpacked.stdout is not None
    done = subprocess.run(
        [tools.program("psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1"],
        stdin=unpacked.stdout,
        env=connection.client_environment(target, target.database),
        capture_output=True,
        check=False,
    )
    unpacked.stdout.close()
    assert unpacked.wait() == 0
    assert done.returncode == 0, done.stderr.decode()


@pytest.mark.parametrize("major", [pytest.param(15, marks=pytest.mark.slow), 16, 18])
def test_an_odd_database_is_copied_proven_and_restored_by_plain_tools(
    database: Database, store: FolderStore, major: int
) -> None:
    source = database(ODD_SCHEMA, major=major, name=ODD_NAME)
    manifest = dump.take_copy(source, ODD_NAME, store)

    assert examining.read_back(store, manifest).verdict == "proven"
    proven = proof.prove_by_restoring(store, manifest)
    assert proven.differences == ()
    assert (proven.verdict, proven.level) == ("proven", Level.COMPARED)
    assert proven.tables_digested == proven.tables_total == len(manifest.tables)

    target = database(major=major, name="odd again")
    restore_plainly(store, manifest, target)
    assert plain_dump(target, major) == plain_dump(source, major)


def test_the_facts_are_those_of_the_database(database: Database, store: FolderStore) -> None:
    source = database(ODD_SCHEMA)
    manifest = dump.take_copy(source, "app", store)
    tables = {table.name: table for table in manifest.tables}
    assert tables["public.customers"].rows == 303
    assert "doubled" not in tables["public.customers"].columns
    assert tables["public.no_columns"].rows == 2
    assert tables["public.doubles"].rows == 5
    assert tables["public.parent"].rows == 1
    assert tables["public.empty"].rows == 0
    assert tables['public."Upper.Dotted"'].rows == 1
    assert all(table.counted == table.rows for table in manifest.tables)
    sequences = {s.name: s for s in manifest.sequences}
    assert (sequences["public.lonely"].value, sequences["public.lonely"].is_called) == (15, True)
    assert sequences['"odd schema"."s\'q""x"'].value == 42
    assert manifest.large_objects.count == 3
    assert manifest.large_objects.total_bytes == 2_100_005


@pytest.mark.parametrize(
    ("options", "sql"),
    [
        (
            "ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'",
            r"CREATE TABLE t (v text); INSERT INTO t VALUES (E'\xff\xfe\\x'), (E'caf\xe9')",
        ),
        (
            "ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'",
            'CREATE TABLE "café" ("naïve" text); INSERT INTO "café" VALUES (\'é\'), (\'ß\')',
        ),
    ],
)
def test_bytes_that_are_not_utf_8_come_back_as_they_were(
    database: Database, store: FolderStore, options: str, sql: str
) -> None:
    source = database(sql, options=options)
    manifest = dump.take_copy(source, "app", store)
    proven = proof.prove_by_restoring(store, manifest)
    assert (proven.verdict, proven.rows_compared) == ("proven", 2), proven.cause


def test_an_empty_database_is_a_copy_too(database: Database, store: FolderStore) -> None:
    manifest = dump.take_copy(database(), "app", store)
    assert manifest.tables == ()
    assert proof.prove_by_restoring(store, manifest).verdict == "proven"


def test_two_copies_of_one_second_get_two_names(database: Database, store: FolderStore) -> None:
    source = database("CREATE TABLE t (id int)")
    made = {dump.take_copy(source, "app", store).name for _ in range(3)}
    assert len(made) == 3
    listed = catalogue.list_copies(store, "shop", "app")
    assert [copy.name for copy in listed] == sorted(made, reverse=True)


def test_writes_during_a_backup_are_never_mistaken_for_damage(
    database: Database, store: FolderStore
) -> None:
    source = database("CREATE TABLE t (id bigint GENERATED ALWAYS AS IDENTITY, v text)")
    writer = """
        DO $$ BEGIN FOR i IN 1..100000 LOOP
          INSERT INTO public.t (v) SELECT repeat('x', 100) FROM generate_series(1, 50);
          UPDATE public.t SET v = v || 'y' WHERE id = i * 40;
          DELETE FROM public.t WHERE id = i * 50;
          COMMIT; END LOOP; END $$
    """
    tools = installations.for_server(18)
    writing = subprocess.Popen(
        [tools.program("psql"), "-X", "-q", "-c", writer],
        env=connection.client_environment(source, "app"),
        stderr=subprocess.DEVNULL,
    )
    try:
        rows = []
        for _ in range(3):
            manifest = dump.take_copy(source, "app", store)
            proven = proof.prove_by_restoring(store, manifest)
            assert proven.verdict == "proven", proven.cause
            rows.append(manifest.rows)
        assert rows == sorted(set(rows))
    finally:
        writing.kill()
        writing.wait()


@pytest.mark.slow
def test_a_copy_of_an_older_server_is_proven_on_a_newer_one(
    database: Database, store: FolderStore
) -> None:
    source = database(ODD_SCHEMA, major=15)
    manifest = dump.take_copy(source, "app", store)
    newer = installations.for_scratch(18)
    proven = proof.prove_by_restoring(store, manifest, installation=newer)
    assert proven.verdict == "proven", proven.differences
    assert any("PostgreSQL 18" in remark for remark in proven.remarks)


def test_names_stay_inside_their_prefix(database: Database, store: FolderStore) -> None:
    hostile = "../../etc"
    manifest = dump.take_copy(database(name=hostile), hostile, store)
    assert manifest.data.key.startswith("postgres/shop/%2E%2E%2F%2E%2E%2Fetc/")
    assert names.parse_prefix(manifest.data.key) == ("shop", hostile)
    files = [path for path in store.folder.rglob("*") if path.is_file()]
    assert len(files) == 3  # data, roles, manifest


def test_a_missing_schema_right_is_named(database: Database, store: FolderStore) -> None:
    source = database("CREATE SCHEMA secret; CREATE TABLE secret.t (id int)")
    with connection.connect(source) as session:
        session.execute("DROP ROLE IF EXISTS visitor")
        session.execute("CREATE ROLE visitor LOGIN")
    visitor = source.model_copy(update={"user": "visitor"})
    with pytest.raises(Refused, match=r"visitor may not read secret\.t"):
        dump.take_copy(visitor, "app", store)
    assert not store.folder.exists()
