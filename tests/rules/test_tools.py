"""Which `psql` reads what which `pg_dump` wrote."""

from __future__ import annotations

import pytest

from flowforge.rules import tools


@pytest.mark.parametrize(
    "version", ["13.22", "14.19", "15.14", "15.20", "16.10", "17.6", "18", "18.6", "19.0"]
)
def test_a_program_of_these_versions_knows_the_word(version: str) -> None:
    assert tools.knows_restrict(version)


@pytest.mark.parametrize("version", ["12.22", "13.21", "14.18", "15.13", "16.9", "17.5", "17"])
def test_a_program_of_these_versions_does_not(version: str) -> None:
    assert not tools.knows_restrict(version)


def test_an_older_psql_is_named_with_what_it_cannot_read() -> None:
    said = tools.why_unreadable("15.13", "15.20")
    assert said == "psql 15.13 does not know \\restrict, which pg_dump 15.20 wrote"


@pytest.mark.parametrize(
    ("psql", "pg_dump"), [("15.14", "18.6"), ("15.13", "15.13"), ("18.0", "14.2")]
)
def test_what_does_not_need_the_word_or_knows_it_is_read(psql: str, pg_dump: str) -> None:
    assert tools.why_unreadable(psql, pg_dump) is None


def test_the_psql_to_install_knows_the_word() -> None:
    assert [tools.fitting_psql(major) for major in (15, 18, 12)] == ["15.14", "18", "18"]
    assert all(tools.knows_restrict(tools.fitting_psql(major)) for major in range(11, 20))
