"""The engine that reads with several sessions copies exactly what `pg_dump` does."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.engines.backup.oracle import Database, engines_agree_on, psql

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
    engines_agree_on(database, source, tmp_path, major)
