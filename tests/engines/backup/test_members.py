"""What several sessions read is one state of the database, whatever others do and settings say."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from flowforge.engines.backup.dumping import dump, lanes, relations, snapshot, tablelocks
from flowforge.engines.backup.proving import examining
from flowforge.engines.backup.stores.folder import FolderStore
from flowforge.engines.postgres import connection
from flowforge.engines.postgres.connection import connect
from flowforge.errors import Unavailable
from tests.engines.backup.oracle import Database, copied_by, engines_agree_on, held, lines_of

ROWS = (
    "CREATE TABLE t AS SELECT g AS id, repeat(md5(g::text), 9) AS v FROM generate_series(1, {}) g"
)

# What somebody may have given a role or a database, and what would change a text or end a session.
HOSTILE = {
    "statement_timeout": "'300ms'",
    "lock_timeout": "'300ms'",
    "idle_in_transaction_session_timeout": "'300ms'",
    "idle_session_timeout": "'300ms'",
    "transaction_timeout": "'300ms'",
    "default_transaction_read_only": "on",
    "default_transaction_isolation": "'serializable'",
    "default_transaction_deferrable": "on",
    "search_path": "'\"$user\", odd'",
    "datestyle": "'SQL, DMY'",
    "intervalstyle": "'iso_8601'",
    "timezone": "'Asia/Kathmandu'",
    "extra_float_digits": "-15",
    "bytea_output": "'escape'",
    "xmlbinary": "'hex'",
    "client_encoding": "'LATIN1'",
    "quote_all_identifiers": "on",
    "standard_conforming_strings": "off",
    "backslash_quote": "off",
    "escape_string_warning": "on",
    "array_nulls": "off",
    "enable_tidscan": "off",
    "row_security": "on",
    "client_min_messages": "'debug5'",
}


def test_settings_of_a_database_change_nothing_in_its_copy(
    database: Database, tmp_path: Path
) -> None:
    source = database(
        "CREATE TABLE t (a float8, b bytea, c interval, d timestamptz, e date, f text, g text[]);"
        " INSERT INTO t SELECT g / 7.0, '\\x5c00'::bytea, g * interval '1 day 1 s',"
        " timestamptz '2026-11-24 06:00Z', date '2026-01-02' + g, E'é\\n\\\\', ARRAY[NULL, 'NULL']"
        " FROM generate_series(1, 100) g"
    )
    _, before = copied_by("members", source, tmp_path / "before")
    there = held(source)
    for name, value in HOSTILE.items():
        with connect(source, "postgres") as session:
            session.execute(f"ALTER DATABASE app SET {name} = {value}".encode())
    assert lines_of(engines_agree_on(database, source, tmp_path, 18)) == lines_of(before)
    held(source).must_equal(there)


def test_a_table_read_in_pieces_and_many_members_is_whole(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relations, "PIECE_BYTES", 256 * 1024)
    monkeypatch.setattr(lanes, "MEMBER_BYTES", 8 * 1024)
    source = database(
        ROWS.format(8000)
        + "; DELETE FROM t WHERE id % 3 = 0; UPDATE t SET v = 'x' WHERE id % 5 = 0;"
        "CREATE TABLE toasted (id int, v text); ALTER TABLE toasted ALTER v SET STORAGE EXTERNAL;"
        "INSERT INTO toasted SELECT g, repeat(md5(g::text), 900) FROM generate_series(1, 30) g"
    )
    members = engines_agree_on(database, source, tmp_path, 18)
    parts = [part for part in members.data.members if part.table == "public.t"]
    assert len(parts) > 4
    assert len({part.pages for part in parts}) > 2
    assert sum(part.rows for part in parts) == members.rows - 30
    offsets = [(part.offset, part.offset + part.size_bytes) for part in members.data.members]
    assert offsets[0][0] == 0
    assert [end for _, end in offsets] == [start for start, _ in offsets[1:]] + [
        members.data.size_bytes
    ]


def test_partitions_by_the_hash_of_an_enum_are_left_to_pg_dump(
    database: Database, store: FolderStore
) -> None:
    source = database(
        "CREATE TYPE mood AS ENUM ('a', 'b', 'c', 'd'); CREATE TABLE t (m mood, v int)"
        " PARTITION BY HASH (m); CREATE TABLE t0 PARTITION OF t FOR VALUES WITH (MODULUS 2,"
        " REMAINDER 0); CREATE TABLE t1 PARTITION OF t FOR VALUES WITH (MODULUS 2, REMAINDER 1);"
        " INSERT INTO t SELECT e, g FROM unnest(enum_range(NULL::mood)) e, generate_series(1, 9) g"
    )
    made = dump.take_copy(source, "app", store)
    assert made.engine == "pg_dump"
    assert any("hash of an enum" in warning for warning in made.warnings)
    assert [(table.name, table.rows) for table in made.tables] == [("public.t", 36)]
    assert examining.read_back(store, made).verdict == "proven"


def at_step(monkeypatch: pytest.MonkeyPatch, wanted: str, act: Callable[[], object]) -> None:
    """Do something once, when a backup comes to a step."""
    done: list[str] = []

    def reached(step: str) -> None:
        if step == wanted and not done:
            done.append(step)
            act()

    monkeypatch.setattr(snapshot, "reached", reached)


@pytest.mark.parametrize(
    "change",
    [
        "DROP TABLE public.t",
        "ALTER TABLE public.t DROP COLUMN v",
        "ALTER TABLE public.t ALTER id TYPE bigint",
        "TRUNCATE public.t",
        "ALTER TABLE public.t RENAME TO u",
        "DROP TABLE public.t; CREATE TABLE public.t (other text)",
        "CREATE TABLE public.another (id int); INSERT INTO public.another VALUES (1)",
    ],
)
def test_a_table_changed_before_it_is_locked_is_copied_as_it_is_then(
    database: Database, store: FolderStore, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    source = database(ROWS.format(100))
    listed = relations.list_relations
    calls: list[int] = []

    def list_then_change(session: psycopg.Connection[Any]) -> list[relations.Relation]:
        found = listed(session)
        if not calls:
            with connect(source) as other:
                other.execute(change.encode())
        calls.append(1)
        return found

    monkeypatch.setattr(snapshot, "list_relations", list_then_change)
    made = dump.take_copy(source, "app", store)
    assert calls
    there = held(source)
    assert tuple(t.model_dump_json(exclude={"counted"}) for t in made.tables) == tuple(
        line for line in there.rows if '"columns"' in line
    )


def test_a_table_made_behind_the_locks_and_rewritten_behind_the_snapshot_is_seen_anew(
    database: Database, store: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = database(ROWS.format(100))

    def run(sql: str) -> None:
        with connect(source) as session:
            session.execute(sql.encode())

    def reached(step: str) -> None:
        if step == "table-locks":
            run("CREATE TABLE IF NOT EXISTS public.late AS SELECT 1 AS id")
        if step == "snapshot" and not rewritten:
            rewritten.append(step)
            run("TRUNCATE public.late; INSERT INTO public.late VALUES (2), (3)")

    rewritten: list[str] = []
    monkeypatch.setattr(snapshot, "reached", reached)
    made = dump.take_copy(source, "app", store)
    assert {table.name: table.rows for table in made.tables}["public.late"] == 2


def test_a_migration_that_waits_behind_a_backup_is_not_waited_for_in_turn(
    database: Database, store: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tablelocks, "WAIT_SECONDS", 1)
    source = database(ROWS.format(1000))
    migrated = threading.Event()

    def migrate() -> None:
        with connect(source) as session:
            session.execute("ALTER TABLE public.t ADD COLUMN w int")
            migrated.set()

    migration = threading.Thread(target=migrate)

    def wait_behind() -> None:
        migration.start()
        with connection.connect(source, "postgres") as session:
            waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
            while session.execute(waiting).fetchone() != (1,):
                pass

    at_step(monkeypatch, "snapshot", wait_behind)
    with pytest.raises(Unavailable, match="stayed locked"):
        dump.take_copy(source, "app", store)
    migration.join(timeout=30)
    assert migrated.is_set()
    assert not list(store.folder.rglob("*.sql.gz"))
