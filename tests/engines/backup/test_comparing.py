"""A copy that differs from its dump by one row, one column, one anything is caught and named."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from flowforge.engines.backup.dumping import dump
from flowforge.engines.backup.loading import loading
from flowforge.engines.backup.proving import proof
from flowforge.engines.backup.stores.folder import FolderStore
from flowforge.engines.postgres import connection, installations
from flowforge.rules.addresses import PostgresAddress
from flowforge.rules.backups import Manifest

Database = Callable[..., PostgresAddress]
Restored = tuple[FolderStore, Manifest, PostgresAddress]

SOURCE = """
CREATE TABLE orders (id int PRIMARY KEY, total numeric DEFAULT 0, note text);
INSERT INTO orders SELECT g, g * 1.5, 'note ' || g FROM generate_series(1, 5000) g;
CREATE TABLE notes (v text);
INSERT INTO notes SELECT 'v' || g FROM generate_series(1, 100) g;
CREATE TABLE lines (a int, b text, PRIMARY KEY (a, b));
INSERT INTO lines SELECT g, 'k' || g FROM generate_series(1, 50) g;
CREATE SEQUENCE s; SELECT nextval('s');
CREATE VIEW v AS SELECT id FROM orders;
CREATE INDEX by_total ON orders (total);
SELECT lo_from_bytea(99, 'abc');
"""


@pytest.fixture
def restored(database: Database, store: FolderStore) -> Restored:
    source = database(SOURCE)
    manifest = dump.take_copy(source, "app", store)
    target = database(name="app2")
    loading.load(store, manifest, installations.for_server(18), target, "app2")
    return store, manifest, target


def differences(restored: Restored, sql: str) -> list[str]:
    store, manifest, target = restored
    with connection.connect(target) as session:
        session.execute("SET search_path TO public")
        session.execute(sql.encode())
    tools = installations.for_server(18)
    found, named = proof.compare_restored(store, manifest, tools, target, target.database)
    return [*named, *found.differences]


def test_an_untouched_copy_has_no_difference(restored: Restored) -> None:
    assert differences(restored, "SELECT 1") == []


def test_other_physical_order_is_no_difference(restored: Restored) -> None:
    assert differences(restored, "CLUSTER orders USING by_total; UPDATE notes SET v = v") == []


@pytest.mark.parametrize(
    ("sql", "named"),
    [
        (
            "UPDATE orders SET total = total + 1 WHERE id = 4711",
            "row id=4711 of public.orders: altered in the copy",
        ),
        ("DELETE FROM orders WHERE id = 17", "row id=17 of public.orders: missing from the copy"),
        (
            "INSERT INTO orders VALUES (9999, 1, 'x')",
            "row id=9999 of public.orders: in the copy, not in the original",
        ),
        ("INSERT INTO notes VALUES ('v7')", "2 times in the copy, not 1"),
        ("DELETE FROM notes WHERE v = 'v9'", "of public.notes: missing from the copy"),
        (
            "UPDATE lines SET b = 'new' WHERE a = 3",
            "row a=3, b=k3 of public.lines: missing from the copy",
        ),
        (
            "ALTER TABLE orders ALTER total DROP DEFAULT",
            "column public.orders.total: defined differently",
        ),
        ("ALTER TABLE orders DROP note", "column public.orders.note: missing from the copy"),
        ("DROP TABLE lines", "table public.lines: missing from the copy"),
        ("CREATE TABLE extra (id int)", "table public.extra: in the copy, not in the original"),
        ("DROP INDEX by_total", "index public.by_total: missing from the copy"),
        (
            "CREATE OR REPLACE VIEW v AS SELECT id FROM orders WHERE id > 1",
            "view public.v: defined differently",
        ),
        ("SELECT nextval('s')", "sequence public.s: at 2 instead of 1"),
        ("SELECT lo_unlink(99)", "large objects: 0 instead of 1"),
        ("SELECT lo_put(99, 0, 'x')", "large objects: as many, other content"),
        (
            "GRANT SELECT ON orders TO public",
            "privileges on relation public.orders: defined differently",
        ),
    ],
)
def test_what_differs_is_named(restored: Restored, sql: str, named: str) -> None:
    found = differences(restored, sql)
    assert any(named in difference for difference in found), found


def test_rows_are_named_without_their_values(restored: Restored) -> None:
    found = differences(restored, "UPDATE notes SET v = 'secret value' WHERE v = 'v1'")
    assert found
    assert not any("secret" in difference or "v1" in difference for difference in found)


ATTACHED = """
CREATE TABLE parents (id int, name text);
CREATE TABLE others (name text, extra int DEFAULT 3);
CREATE TABLE attached (own text, name text, id int, extra int, PRIMARY KEY (own));
ALTER TABLE attached INHERIT parents;
ALTER TABLE attached INHERIT others;
CREATE TABLE below (last int, extra int, id int, name text, own text NOT NULL);
ALTER TABLE below INHERIT attached;
CREATE TABLE made (more int) INHERITS (parents);
INSERT INTO attached SELECT 'own ' || g, 'n' || g, g, g * 2 FROM generate_series(1, 1000) g;
INSERT INTO below VALUES (1, 2, 3, 'n', 'o');
INSERT INTO made VALUES (1, 'm', 7);
"""


def test_a_child_attached_with_its_columns_in_another_order_is_compared_to_the_row(
    database: Database, store: FolderStore
) -> None:
    source = database(ATTACHED)
    manifest = dump.take_copy(source, "app", store)

    proven = proof.prove_by_restoring(store, manifest)

    assert (proven.differences, proven.verdict, proven.level) == ((), "proven", 3)
    assert proven.tables_digested == 5

    target = database(name="app2")
    loading.load(store, manifest, installations.for_server(18), target, "app2")
    assert differences((store, manifest, target), "UPDATE attached SET name = '' WHERE id = 7") == [
        "row own=own 7 of public.attached: altered in the copy",
        "table public.attached: as many rows, other content",
    ]


def test_a_table_with_its_own_columns_in_another_order_differs(restored: Restored) -> None:
    found = differences(restored, "DROP TABLE lines; CREATE TABLE lines (b text, a int)")
    assert "column public.lines.a: defined differently" in found
