"""Single tables come back beside the live ones, whole, compared, and only those asked for."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from flowforge.engines.backup.dumping import dump
from flowforge.engines.backup.restoring import tablenames, tables
from flowforge.engines.backup.shelf import catalogue
from flowforge.engines.backup.stores.folder import FolderStore
from flowforge.engines.postgres import connection
from flowforge.errors import Damaged, Refused
from flowforge.rules.addresses import PostgresAddress
from flowforge.rules.backups import Manifest
from flowforge.rules.table_restores import TablePlan

Database = Callable[..., PostgresAddress]

SOURCE = """
CREATE TYPE mood AS ENUM ('glad', 'sad');
CREATE TABLE customers (id int PRIMARY KEY, name text NOT NULL);
CREATE TABLE orders (id serial PRIMARY KEY, customer int REFERENCES customers, felt mood,
                     at timestamptz DEFAULT now(), CHECK (id > 0));
CREATE UNIQUE INDEX orders_by_customer ON orders (customer, id) WHERE id > 3;
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql
  AS $$ BEGIN RAISE 'no; never'; END $$;
INSERT INTO customers SELECT g, 'c' || g FROM generate_series(1, 50) g;
INSERT INTO orders (customer, felt) SELECT g % 50 + 1, 'glad' FROM generate_series(1, 400) g;
CREATE TRIGGER refuse BEFORE DELETE ON orders FOR EACH ROW EXECUTE FUNCTION refuse();
CREATE TABLE days (day int PRIMARY KEY, hits int) PARTITION BY RANGE (day);
CREATE TABLE days_1 PARTITION OF days FOR VALUES FROM (0) TO (100);
CREATE TABLE days_2 PARTITION OF days FOR VALUES FROM (100) TO (200) PARTITION BY LIST (day);
CREATE TABLE days_2_rest PARTITION OF days_2 DEFAULT;
INSERT INTO days SELECT g, g FROM generate_series(0, 199) g;
CREATE SCHEMA "Odd; one";
CREATE TABLE "Odd; one"."or""ders" ("a b" text, c int GENERATED ALWAYS AS IDENTITY);
INSERT INTO "Odd; one"."or""ders" ("a b") VALUES (E'x\\ty'), (NULL), (E'back\\\\slash');
CREATE TABLE parents (a int);
CREATE TABLE children (b int) INHERITS (parents);
INSERT INTO parents VALUES (1);
INSERT INTO children VALUES (2, 3);
SELECT lo_from_bytea(4711, 'large');
"""


@pytest.fixture
def source(database: Database) -> PostgresAddress:
    return database(SOURCE)


def plan(
    store: FolderStore, manifest: Manifest, address: PostgresAddress, *wanted: str
) -> TablePlan:
    (copy,) = catalogue.list_copies(store, "shop", "app")
    return tables.plan(store, manifest, copy, address, "app", wanted)


def do(
    store: FolderStore, manifest: Manifest, address: PostgresAddress, *wanted: str
) -> tables.TableRestoration:
    made = plan(store, manifest, address, *wanted)
    return tables.apply(store, manifest, address, made, made.digest)


def ask(address: PostgresAddress, sql: str, database: str = "app") -> object:
    with connection.connect(address, database) as session:
        cursor = session.execute(sql.encode())
        row = cursor.fetchone() if cursor.description else None
        return row[0] if row else None


def relations(address: PostgresAddress, schema: str) -> list[str]:
    with connection.connect(address) as session:
        rows = session.execute(
            "SELECT relname FROM pg_class WHERE relnamespace = %s::regnamespace ORDER BY 1",
            (schema,),
        )
        return [name for (name,) in rows.fetchall()]


def sides(address: PostgresAddress) -> object:
    return ask(address, "SELECT count(*) FROM pg_database WHERE datname LIKE 'app\\_%'", "postgres")


@pytest.mark.parametrize("engine", ["members", "pg_dump"])
def test_tables_come_back_beside_the_live_ones_with_their_rows_indexes_and_sequences(
    source: PostgresAddress, store: FolderStore, engine: dump.Engine
) -> None:
    manifest = dump.take_copy(source, "app", store, engine=engine)
    ask(source, "UPDATE public.orders SET felt = 'sad'")
    done = do(store, manifest, source, "orders", 'Odd; one.or"ders')

    assert [(one.name, one.rows) for one in done.tables] == [
        ('"Odd; one"."or""ders"', 3),
        ("public.orders", 400),
    ]
    assert relations(source, done.schema) == [
        'or"ders',
        'or"ders_c_seq',
        "orders",
        "orders_by_customer",
        "orders_id_seq",
        "orders_pkey",
    ]
    assert ask(source, f"SELECT count(*) FROM {done.schema}.orders WHERE felt = 'glad'") == 400
    assert ask(source, "SELECT count(*) FROM public.orders WHERE felt = 'sad'") == 400
    assert ask(source, f"SELECT nextval('{done.schema}.orders_id_seq')") == 401
    triggers = f"SELECT count(*) FROM pg_trigger WHERE tgrelid = '{done.schema}.orders'::regclass"
    assert ask(source, triggers) == 0
    assert sides(source) == 0


@pytest.mark.parametrize("engine", ["members", "pg_dump"])
def test_a_partitioned_table_comes_with_all_its_partitions_and_an_heir_with_its_parent(
    source: PostgresAddress, store: FolderStore, engine: dump.Engine
) -> None:
    manifest = dump.take_copy(source, "app", store, engine=engine)
    done = do(store, manifest, source, "days", "parents")
    assert relations(source, done.schema) == [
        "children",
        "days",
        "days_1",
        "days_1_pkey",
        "days_2",
        "days_2_pkey",
        "days_2_rest",
        "days_2_rest_pkey",
        "days_pkey",
        "parents",
    ]
    assert ask(source, f"SELECT sum(hits) FROM {done.schema}.days") == sum(range(200))
    assert ask(source, f"SELECT sum(a) FROM {done.schema}.parents") == 3
    valid = (
        f"SELECT indisvalid FROM pg_index WHERE indexrelid = '{done.schema}.days_pkey'::regclass"
    )
    assert ask(source, valid) is True


def test_one_partition_comes_alone_and_is_never_hung_onto_the_live_table(
    source: PostgresAddress, store: FolderStore
) -> None:
    manifest = dump.take_copy(source, "app", store)
    ask(source, "DROP TABLE public.days_1")
    done = do(store, manifest, source, "days_1", "children")
    assert ask(source, f"SELECT count(*) FROM {done.schema}.days_1") == 100
    assert ask(source, "SELECT count(*) FROM public.days") == 100
    assert ask(source, "SELECT sum(a) FROM public.parents") == 3


def test_a_partition_whose_rows_lie_among_those_of_its_root_comes_with_the_root_only(
    source: PostgresAddress, store: FolderStore
) -> None:
    with connection.connect(source) as session:
        session.execute("CREATE TABLE public.moods (felt public.mood) PARTITION BY HASH (felt)")
        for n in (0, 1):
            session.execute(
                f"CREATE TABLE public.moods_{n} PARTITION OF public.moods"
                f" FOR VALUES WITH (MODULUS 2, REMAINDER {n})".encode()
            )
        session.execute("INSERT INTO public.moods VALUES ('glad'), ('sad'), ('sad')")
    manifest = dump.take_copy(source, "app", store, engine="pg_dump")
    with pytest.raises(Refused, match=r"only among those of public\.moods"):
        do(store, manifest, source, "moods_0")
    done = do(store, manifest, source, "moods")
    assert ask(source, f"SELECT count(*) FROM {done.schema}.moods") == 3


def test_an_undone_restore_of_tables_leaves_nothing_but_drops_nobody_else_s_things(
    source: PostgresAddress, store: FolderStore
) -> None:
    manifest = dump.take_copy(source, "app", store)
    done = do(store, manifest, source, "orders")
    ask(source, f"CREATE VIEW public.mine AS SELECT count(*) FROM {done.schema}.orders")
    with pytest.raises(Refused, match=r"view public\.mine depends on"):
        tables.undo(source, "app", done.restore_id)
    ask(source, "DROP VIEW public.mine")
    assert tables.undo(source, "app", done.restore_id) == done.schema
    assert ask(source, "SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'restore%'") == 0
    with pytest.raises(Refused, match="holds no tables of restore"):
        tables.undo(source, "app", done.restore_id)


def test_an_applied_plan_is_not_applied_twice_and_one_that_was_not_agreed_to_not_once(
    source: PostgresAddress, store: FolderStore
) -> None:
    manifest = dump.take_copy(source, "app", store)
    made = plan(store, manifest, source, "orders")
    with pytest.raises(Refused, match="No plan was agreed to"):
        tables.apply(store, manifest, source, made, None)
    with pytest.raises(Refused, match="has changed"):
        agreed = plan(store, manifest, source, "customers").digest
        tables.apply(store, manifest, source, made, agreed)
    first = tables.apply(store, manifest, source, made, made.digest)
    ask(source, f"DELETE FROM {first.schema}.orders")
    again = tables.apply(store, manifest, source, made, made.digest)
    assert (again.schema, again.tables) == (first.schema, ())
    assert ask(source, f"SELECT count(*) FROM {first.schema}.orders") == 0


def test_a_schema_somebody_else_made_is_an_obstacle(
    source: PostgresAddress, store: FolderStore
) -> None:
    manifest = dump.take_copy(source, "app", store)
    made = plan(store, manifest, source, "orders")
    ask(source, f"CREATE SCHEMA {made.schema_name}")
    with pytest.raises(Refused, match="is not FlowForge's"):
        do(store, manifest, source, "orders")


def test_rows_that_are_not_what_was_dumped_are_never_seen(
    source: PostgresAddress, store: FolderStore
) -> None:
    manifest = dump.take_copy(source, "app", store)
    other = tuple(table.model_copy(update={"digest": "0" * 32}) for table in manifest.tables)
    with pytest.raises(Damaged, match=r"rows of public\.orders are not what was dumped"):
        do(store, manifest.model_copy(update={"tables": other}), source, "orders")
    assert ask(source, "SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'restore%'") == 0
    assert sides(source) == 0


def test_tables_are_found_by_the_names_people_type(
    source: PostgresAddress, store: FolderStore
) -> None:
    ask(source, "CREATE SCHEMA other; CREATE TABLE other.customers (a int)")
    manifest = dump.take_copy(source, "app", store)
    for typed, meant in (
        ("orders", "public.orders"),
        ("ORDERS", "public.orders"),
        ("public.orders", "public.orders"),
        ('"public"."orders"', "public.orders"),
        ('or"ders', '"Odd; one"."or""ders"'),
        ('"Odd; one"."or""ders"', '"Odd; one"."or""ders"'),
        ("days", "public.days"),
        ("other.customers", "other.customers"),
    ):
        assert tablenames.choose(manifest, typed) == meant
    for typed, said in (
        ("ordres", "Did you mean public.orders"),
        ("customers", "Say which: other.customers, public.customers"),
        ("zzz", "It holds"),
    ):
        with pytest.raises(Refused) as told:
            tablenames.choose(manifest, typed)
        assert said in told.value.hint
    with pytest.raises(Refused, match="called customers"):
        do(store, manifest, source, "other.customers", "public.customers")
