"""The engine that reads with several sessions copies exactly what `pg_dump` does."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from flowforge.engines.postgres.connection import connect
from tests.engines.backup.oracle import Database, engines_agree_on, psql
from tests.engines.backup.random_schemas import schemas
from tests.engines.backup.test_questions import prefect_database

CORPUS = sorted((Path(__file__).parents[1] / "corpus").glob("*.sql"))


def test_everything_a_database_can_hold_is_copied_the_same_by_both_engines(
    database: Database, tmp_path: Path
) -> None:
    source = database()
    for file in CORPUS:
        psql(source, 18, file.read_bytes())
    assert engines_agree_on(database, source, tmp_path, 18).rows > 400


@pytest.mark.slow
@pytest.mark.parametrize("major", [15, 16, 18])
@pytest.mark.parametrize("file", CORPUS, ids=lambda file: file.stem)
def test_a_database_of_any_version_is_copied_the_same_by_both_engines(
    database: Database, tmp_path: Path, file: Path, major: int
) -> None:
    source = database(major=major)
    psql(source, major, file.read_bytes())
    assert engines_agree_on(database, source, tmp_path, major).tables


def copied_the_same(database: Database, folder: Path, sql: str, number: int) -> None:
    source = database(name=f"random {number}")
    psql(source, 18, sql.encode())
    made = engines_agree_on(database, source, folder / str(number), 18, names=f"r{number}")
    assert made.tables


def check_random_databases(database: Database, folder: Path, examples: int) -> None:
    count = itertools.count()

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=examples < 10,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],
    )
    @given(sql=schemas())
    def check(sql: str) -> None:
        copied_the_same(database, folder, sql, next(count))

    check()


def test_random_databases_are_copied_the_same_by_both_engines(
    database: Database, tmp_path: Path
) -> None:
    check_random_databases(database, tmp_path, 2)


@pytest.mark.slow
def test_many_random_databases_are_copied_the_same_by_both_engines(
    database: Database, tmp_path: Path
) -> None:
    check_random_databases(database, tmp_path, 60)


EXTENSION = r"""
CREATE TABLE kept (id int GENERATED ALWAYS AS IDENTITY, v text);
CREATE TABLE partly (id serial, "own rows" bool DEFAULT true, v text);
CREATE TABLE never (id int);
CREATE SEQUENCE counter;
INSERT INTO kept (v) VALUES ('of the extension');
INSERT INTO partly ("own rows", v) VALUES (false, 'of the extension');
INSERT INTO never VALUES (1);
SELECT pg_catalog.pg_extension_config_dump('partly', $$WHERE "own rows" AND v::text <> ':x'$$);
SELECT pg_catalog.pg_extension_config_dump('kept', $$WHERE v <> 'of the extension'$$);
SELECT pg_catalog.pg_extension_config_dump('counter', '');
"""


def test_of_an_extension_only_those_rows_are_copied_that_it_names(
    database: Database, tmp_path: Path
) -> None:
    source = database()
    folder = Path(source.host) / "extensions" / "extension"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "configured--1.sql").write_text(EXTENSION)
    (folder / "configured.control").write_text("default_version = '1'\nrelocatable = true\n")
    path = f"{folder.parent}:$system"
    with connect(source, "postgres") as session:
        session.execute(f"ALTER SYSTEM SET extension_control_path = '{path}'".encode())
        session.execute("SELECT pg_reload_conf()")
    try:
        psql(
            source,
            18,
            b"CREATE EXTENSION configured; INSERT INTO kept (v) VALUES ('mine'), ('also mine');"
            b"INSERT INTO partly (v) VALUES ('mine'), (':x'); INSERT INTO never VALUES (2);"
            b"SELECT setval('counter', 42); CREATE TABLE other AS SELECT 1 AS id;",
        )
        made = engines_agree_on(database, source, tmp_path, 18)
    finally:
        with connect(source, "postgres") as session:
            session.execute("ALTER SYSTEM RESET extension_control_path")
            session.execute("SELECT pg_reload_conf()")
    rows = {table.name: table.rows for table in made.tables}
    assert rows == {"public.kept": 2, "public.other": 1, "public.partly": 1}
    assert all(table.counted == table.rows for table in made.tables)
    assert [(s.name, s.value) for s in made.sequences] == [("public.counter", 42)]


@pytest.mark.slow
def test_prefects_own_database_is_copied_the_same_by_both_engines(
    database: Database, tmp_path: Path
) -> None:
    source = prefect_database(database)
    with connect(source) as session:
        session.execute(
            "INSERT INTO public.flow (name) VALUES ('a flow');"
            "INSERT INTO public.flow_run (flow_id, name)"
            " SELECT id, 'run ' || g FROM public.flow, generate_series(1, 25) g"
        )
    assert engines_agree_on(database, source, tmp_path, 18).rows > 25
