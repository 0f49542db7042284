"""Which copy a drill should bring back to life, what drills have shown, and what that promises."""

from __future__ import annotations

import random
import statistics
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta

from pydantic import ConfigDict, Field

from flowforge.errors import Refused
from flowforge.rules.backups import Copy
from flowforge.rules.proofs import Level, Proof, Verdict
from flowforge.rules.values import Value

WINDOW_DAYS = 30
ESTIMATED_FROM = 5
_UNPROVEN_WEIGHT = 4.0


class Drill(Value):
    """What one drill found; kept in the store beside the copies, so it outlives the ledger."""

    schema_version: int = Field(default=1, alias="schema")
    server: str
    database: str
    store: str
    copy_name: str
    drilled_at: datetime
    level: Level
    verdict: Verdict
    cause: str | None = None
    seconds: float | None = Field(
        description="fetch, load and compare: what a restore does before it switches over; none "
        "when the copy was not restored"
    )
    phase_seconds: dict[str, float] = Field(default_factory=dict)
    stored_bytes: int
    raw_bytes: int

    model_config = ConfigDict(populate_by_name=True, serialize_by_alias=True)

    def to_json(self) -> bytes:
        """The record as it is stored."""
        return self.model_dump_json(indent=1).encode()


class Estimate(Value):
    """How long bringing a copy back should take, in seconds."""

    seconds: float
    fastest: float
    slowest: float
    drills: int = Field(description="how many drills it is the median of")


def drill_of(copy: Copy, proof: Proof) -> Drill:
    """What there is to remember of a drill."""
    restored = proof.restore_seconds
    return Drill(
        server=copy.server,
        database=copy.database,
        store=copy.store,
        copy_name=copy.name,
        drilled_at=proof.checked_at,
        level=proof.level,
        verdict=proof.verdict,
        cause=proof.cause,
        seconds=None
        if restored is None
        else round(restored + proof.phase_seconds.get("compare", 0.0), 3),
        phase_seconds=proof.phase_seconds,
        stored_bytes=copy.size_bytes,
        raw_bytes=copy.raw_bytes,
    )


def estimate(drills: Sequence[Drill], raw_bytes: int) -> Estimate | None:
    """How long a copy of a size should take, from the pace of the last drills that restored one.

    Args:
        drills: Of one database, in any order.
        raw_bytes: Size of the copy's text.
    """
    measured = sorted(
        (drill for drill in drills if drill.seconds), key=lambda drill: drill.drilled_at
    )[-ESTIMATED_FROM:]
    paces = [drill.raw_bytes / drill.seconds for drill in measured if drill.seconds]
    if not paces:
        return None
    return Estimate(
        seconds=round(raw_bytes / statistics.median(paces), 1),
        fastest=round(raw_bytes / max(paces), 1),
        slowest=round(raw_bytes / min(paces), 1),
        drills=len(paces),
    )


def choose_copy(copies: Sequence[Copy], on: date, *, window_days: int = WINDOW_DAYS) -> Copy:
    """Choose the copy a drill of a day should restore.

    The newest usable copy goes first while it was never compared, since a real restore would take
    it. After that it is chance that chooses within the window, so that no copy is safe from being
    tried: a copy never compared is four times as likely, and so is one whose proof is older.
    The same copies and the same day choose the same copy.

    Raises:
        Refused: There is no copy.
    """
    if not copies:
        raise Refused("There is no copy to drill with.", hint="Take one: `flowforge backup run`.")
    usable = [c for c in copies if not c.failed] or list(copies)
    ordered = sorted(usable, key=lambda c: (c.snapshot_at, c.name), reverse=True)
    newest = ordered[0]
    if newest.level < Level.COMPARED:
        return newest
    since = newest.snapshot_at - timedelta(days=window_days)
    inside = [c for c in ordered if c.snapshot_at >= since]
    chance = random.Random(f"{newest.server}/{newest.database}/{on.isoformat()}")
    return chance.choices(inside, [_weight(copy, on) for copy in inside])[0]


def _weight(copy: Copy, on: date) -> float:
    if copy.level < Level.COMPARED or copy.proven_at is None:
        since, factor = copy.snapshot_at, _UNPROVEN_WEIGHT
    else:
        since, factor = copy.proven_at, 1.0
    days = (on - since.astimezone(UTC).date()).days
    return factor * (1.0 + max(0, days))
