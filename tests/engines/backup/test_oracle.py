"""The engine that reads with several sessions copies exactly what `pg_dump` does."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from tests.engines.backup.oracle import Database, engines_agree_on, psql
from tests.engines.backup.random_schemas import schemas

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
