from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from flowforge.engines.backup.dumping import dump
from flowforge.engines.backup.restoring import masking, restore
from flowforge.engines.backup.shelf import catalogue
from flowforge.engines.backup.stores.folder import FolderStore
from flowforge.engines.postgres import connection
from flowforge.errors import Refused
from flowforge.rules.addresses import PostgresAddress
from flowforge.rules.backups import Manifest
from flowforge.rules.masks import Mask
from flowforge.rules.restores import RestorePlan

Database = Callable[..., PostgresAddress]

SOURCE = """
CREATE TABLE people (id int PRIMARY KEY, email text, note text,
                     domain text GENERATED ALWAYS AS (split_part(email, '@', 2)) STORED);
CREATE INDEX ON people (email);
CREATE TABLE audit (said text);
CREATE FUNCTION remember() RETURNS trigger LANGUAGE plpgsql
  AS $$ BEGIN INSERT INTO public.audit VALUES (OLD.email); RETURN NEW; END $$;
INSERT INTO people (id, email, note) SELECT g, 'person' || g || '@home.invalid', 'n' || g
  FROM generate_series(1, 500) g;
CREATE TRIGGER remember AFTER UPDATE ON people FOR EACH ROW EXECUTE FUNCTION remember();
ALTER TABLE people ENABLE ALWAYS TRIGGER remember;
CREATE MATERIALIZED VIEW addresses AS SELECT email FROM people;
CREATE TABLE visits (at int, who text) PARTITION BY RANGE (at);
CREATE TABLE visits_1 PARTITION OF visits FOR VALUES FROM (0) TO (100);
CREATE TABLE visits_2 PARTITION OF visits FOR VALUES FROM (100) TO (200);
INSERT INTO visits SELECT g, 'person' || g FROM generate_series(0, 199) g;
"""
EMAIL = Mask(table="people", column="email", expression="'user' || id || '@example.org'")
WHO = Mask(table="public.visits", column="who", expression="'somebody'")


@pytest.fixture
def source(database: Database) -> PostgresAddress:
    return database(SOURCE)


@pytest.fixture
def manifest(source: PostgresAddress, store: FolderStore) -> Manifest:
    return dump.take_copy(source, "app", store)


def plan(
    store: FolderStore, manifest: Manifest, address: PostgresAddress, *masks: Mask, to: str
) -> RestorePlan:
    (copy,) = catalogue.list_copies(store, "shop", "app")
    return restore.plan(store, manifest, copy, address, to, masks=masks)


def ask(address: PostgresAddress, database: str, sql: str) -> object:
    with connection.connect(address, database) as session:
        row = session.execute(sql.encode()).fetchone()
        return row[0] if row else None


def test_a_masked_clone_holds_nothing_of_what_was_masked_not_even_in_its_files(
    source: PostgresAddress, manifest: Manifest, store: FolderStore
) -> None:
    made = plan(store, manifest, source, EMAIL, WHO, to="app clone")
    done = restore.apply(store, manifest, source, made, made.digest)

    assert [(one.table, one.rows) for one in done.masked] == [
        ("public.people", 500),
        ("public.visits", 200),
    ]
    one_row = "SELECT email || ' ' || note || ' ' || domain FROM public.people WHERE id = 7"
    assert ask(source, "app clone", one_row) == "user7@example.org n7 example.org"
    assert ask(source, "app clone", "SELECT count(DISTINCT who) FROM public.visits") == 1
    assert ask(source, "app clone", "SELECT count(*) FROM public.audit") == 0
    fires = "SELECT tgenabled::text FROM pg_trigger WHERE tgname = 'remember'"
    assert ask(source, "app clone", fires) == "A"
    with connection.connect(source, "app clone") as session:
        (data,) = session.execute("SELECT current_setting('data_directory')").fetchone() or ("",)
        session.execute("CHECKPOINT")
        for table in ("public.people", "public.visits_1", "public.addresses", "pg_statistic"):
            (file,) = session.execute(
                "SELECT pg_relation_filepath(%s::regclass)", (table,)
            ).fetchone() or ("",)
            assert b"person" not in (Path(data) / file).read_bytes()


def test_nobody_but_its_owner_may_enter_a_clone_until_it_is_masked(
    source: PostgresAddress, manifest: Manifest, store: FolderStore
) -> None:
    with connection.connect(source, "postgres") as session:
        session.execute("DROP ROLE IF EXISTS visitor")
        session.execute("CREATE ROLE visitor LOGIN")
    visitor = source.model_copy(update={"user": "visitor"})
    refused: list[str] = []
    made = plan(store, manifest, source, EMAIL, to="app clone")

    def try_to_enter(*_: object) -> None:
        with pytest.raises(Refused, match="permission denied") as told:
            connection.connect(visitor, made.side_database)
        refused.append(told.value.message)

    restore.apply(store, manifest, source, made, made.digest, on_progress=try_to_enter)
    assert refused
    connection.connect(visitor, "app clone").close()
    with connection.connect(source, "postgres") as session:
        session.execute("DROP ROLE visitor")


def test_masks_are_part_of_what_is_agreed_to(
    source: PostgresAddress, manifest: Manifest, store: FolderStore
) -> None:
    bare = plan(store, manifest, source, to="app clone")
    masked = plan(store, manifest, source, EMAIL, to="app clone")
    assert bare.digest != masked.digest
    with pytest.raises(Refused, match="has changed"):
        restore.apply(store, manifest, source, masked, bare.digest)


def test_a_masked_copy_never_replaces_what_it_was_taken_from(
    source: PostgresAddress, manifest: Manifest, store: FolderStore
) -> None:
    made = plan(store, manifest, source, EMAIL, to="app")
    with pytest.raises(Refused, match="another name"):
        restore.apply(store, manifest, source, made, made.digest)
    assert ask(source, "app", "SELECT email FROM public.people WHERE id = 1")


def test_a_mask_that_cannot_be_is_refused_before_anything_is_done(manifest: Manifest) -> None:
    for table, column, expression, said in (
        ("peopl", "email", "''", "Did you mean public.people"),
        ("people", "mail", "''", "no column 'mail'"),
        ("people", "domain", "''", "is generated"),
        ("people", "email", " ", "not one SQL expression"),
        ("people", "email", "'a'; DROP TABLE x", "not one SQL expression"),
        ("people", "email", "'a'), note = ('b'", "not one SQL expression"),
        ("people", "email", "1 /* ( */ ), note = (2", "not one SQL expression"),
        ("people", "email", "'a' -- x", "not one SQL expression"),
        ("people", "email", "'a", "not one SQL expression"),
    ):
        with pytest.raises(Refused) as told:
            masking.check(manifest, [Mask(table=table, column=column, expression=expression)])
        assert said in str(told.value)
    with pytest.raises(Refused, match="masked twice"):
        masking.check(manifest, [EMAIL, EMAIL])


def test_a_mask_the_data_refuses_leaves_no_clone_and_shows_no_row(
    source: PostgresAddress, manifest: Manifest, store: FolderStore
) -> None:
    for column, expression, said in (
        ("id", "1", "is a key"),
        ("note", "nosuch(note)", "nosuch"),
        ("note", "note::int::text", "InvalidText"),
    ):
        mask = Mask(table="people", column=column, expression=expression)
        made = plan(store, manifest, source, mask, to="app clone")
        with pytest.raises(Refused, match=said) as told:
            restore.apply(store, manifest, source, made, made.digest)
        assert "n1" not in str(told.value)
    count = "SELECT count(*) FROM pg_database WHERE datname LIKE 'app_%'"
    assert ask(source, "postgres", count) == 0
