"""What people have to be told of their copies although no run has failed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from pydantic import JsonValue

from flowforge.rules.backups import Copy
from flowforge.rules.proofs import Level
from flowforge.rules.values import Value

STALE = "flowforge.backup.stale"
UNVERIFIED = "flowforge.backup.unverified"
SKIPPED = "flowforge.backup.skipped"
SHRUNK = "flowforge.backup.shrunk"
_SKIPS = 2


class Alert(Value):
    """One thing to tell, once."""

    event: str
    server: str
    database: str
    about: str
    """What it is about; an alert of the same event about the same thing is told once."""

    facts: dict[str, JsonValue]
    hint: str


class BackupRuns(Value):
    """What the runs of one database's backup add up to."""

    server: str
    database: str
    skipped_total: int
    """Runs that ended because another one was at it."""

    skipped_in_a_row: int
    """Of those, the ones since the last run that was not skipped."""

    skipped_since: str | None = None
    """The first flow run of those in a row."""

    orphans: int | None = None
    """Objects of no copy, as the last run that looked saw them."""


def find_stale(copies: Iterable[Copy], now: datetime, max_age_seconds: float) -> list[Alert]:
    """Databases whose newest copy is older than it may be.

    Args:
        copies: The newest usable copy of every database.
        now: The time it is.
        max_age_seconds: How old it may be.
    """
    found = []
    for copy in copies:
        age_seconds = (now - copy.snapshot_at).total_seconds()
        if age_seconds > max_age_seconds:
            place = f"{copy.server}/{copy.database}"
            hint = (
                f"Look at the failed runs of backup-postgres for {place}, then run "
                f"`flowforge backup run {copy.server}`."
            )
            facts: dict[str, JsonValue] = {
                "newest_copy": copy.name,
                "age_seconds": round(age_seconds),
            }
            found.append(_alert(STALE, copy, copy.name, facts, hint))
    return found


def find_unverified(
    oldest: Iterable[Copy], proven: Sequence[Copy], now: datetime, max_age_seconds: float
) -> list[Alert]:
    """Databases of which no copy was restored and compared for too long.

    Args:
        oldest: The oldest copy of every database: since when it could have been proven.
        proven: Of each database that ever was, the copy proven last, to L3 at least.
        now: The time it is.
        max_age_seconds: How long ago the last proof may be.
    """
    last = {(c.server, c.database): c for c in proven if c.level >= Level.COMPARED}
    found = []
    for copy in oldest:
        known = last.get((copy.server, copy.database))
        since = known.proven_at if known and known.proven_at else copy.snapshot_at
        age_seconds = (now - since).total_seconds()
        if age_seconds <= max_age_seconds:
            continue
        facts: dict[str, JsonValue] = {
            "proven_copy": known.name if known else None,
            "age_seconds": round(age_seconds),
        }
        hint = (
            "Copies are made, but none was brought back to life and compared: run "
            f"`flowforge backup verify latest --server {copy.server}` and read its report."
        )
        about = f"since {since:%Y-%m-%d %H:%M:%S}"
        found.append(_alert(UNVERIFIED, copy, about, facts, hint))
    return found


def find_shrunk(copies: Iterable[Copy]) -> list[Alert]:
    """Copies that hold far less than the one before."""
    return [
        _alert(
            SHRUNK,
            copy,
            copy.name,
            {"newest_copy": copy.name, "fall": copy.fall},
            "No copy is deleted until somebody says that this is right: "
            f"`flowforge backup accept {copy.name} --server {copy.server}`.",
        )
        for copy in copies
        if copy.fall
    ]


def find_skipped(runs: Iterable[BackupRuns]) -> list[Alert]:
    """Databases whose last two backups or more were skipped."""
    return [
        Alert(
            event=SKIPPED,
            server=one.server,
            database=one.database,
            about=one.skipped_since or "",
            facts={"in_a_row": one.skipped_in_a_row},
            hint="A backup runs longer than the time between two: look at the one that runs, "
            "and end it if it hangs.",
        )
        for one in runs
        if one.skipped_in_a_row >= _SKIPS
    ]


def _alert(event: str, copy: Copy, about: str, facts: dict[str, JsonValue], hint: str) -> Alert:
    return Alert(
        event=event,
        server=copy.server,
        database=copy.database,
        about=about,
        facts=facts,
        hint=hint,
    )
