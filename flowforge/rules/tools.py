"""Which versions of PostgreSQL's programs understand each other's text."""

from __future__ import annotations

_RESTRICT_SINCE = {13: 22, 14: 19, 15: 14, 16: 10, 17: 6}
"""The minor version of each major that brought the word `\\restrict`; 18 was born with it."""


def knows_restrict(version: str) -> bool:
    r"""Tell whether programs of a version write and understand `\restrict`."""
    major, _, minor = version.partition(".")
    if int(major) not in _RESTRICT_SINCE:
        return int(major) > max(_RESTRICT_SINCE)
    return int(minor or 0) >= _RESTRICT_SINCE[int(major)]


def why_unreadable(psql: str, pg_dump: str) -> str | None:
    """Why a `psql` of one version cannot run what a `pg_dump` of another wrote, if it cannot."""
    if knows_restrict(pg_dump) and not knows_restrict(psql):
        return f"psql {psql} does not know \\restrict, which pg_dump {pg_dump} wrote"
    return None


def fitting_psql(major: int) -> str:
    """The oldest `psql` of a major version that reads every copy."""
    return f"{major}.{_RESTRICT_SINCE[major]}" if major in _RESTRICT_SINCE else f"{max(major, 18)}"
