"""How well each database is protected: what would be lost now, how long bringing it back takes.

One account for everybody: the page in Prefect's UI, `flowforge backup status`, the server's own API
and its metrics are all made from these values.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from typing import Literal

from pydantic import Field, computed_field

from flowforge.rules.alerts import BackupRuns
from flowforge.rules.backups import Copy
from flowforge.rules.drills import Drill
from flowforge.rules.values import Value

SWITCH_SECONDS = 30.0
"""What a restore takes beside loading and comparing: ending sessions, renaming, opening."""

TREND_OF = 12
_FEWEST_FOR_A_TREND = 3
_FARTHEST_DAYS = 3650


class Targets(Value):
    """What the owner of the data was promised."""

    rto_minutes: float = Field(default=15, gt=0, description="back within this many minutes")
    rpo_hours: float = Field(default=6, gt=0, description="at most this many hours of writes lost")


STANDARD = Targets()


class Known(Value):
    """What is known of all databases: a few copies of each, its last drills, its skipped runs."""

    newest: tuple[Copy, ...] = Field(description="of each database the newest usable copy")
    oldest: tuple[Copy, ...] = Field(description="of each database the oldest copy")
    usable: tuple[Copy, ...] = Field(
        description="of each database in each store the newest copy that was read back"
    )
    proven: tuple[Copy, ...] = Field(description="of each database the copy that was compared last")
    fallen: tuple[Copy, ...] = Field(
        default=(), description="of each database the newest copy with a fall nobody accepted"
    )
    counts: dict[tuple[str, str, str], int] = Field(
        default_factory=dict, description="copies by store, server and database"
    )
    drills: tuple[Drill, ...] = Field(default=(), description="the last of each database")
    measured: tuple[Drill, ...] = Field(
        default=(), description="of each database what its last proof measured that restored a copy"
    )
    runs: tuple[BackupRuns, ...] = ()


NOTHING_KNOWN = Known(newest=(), oldest=(), usable=(), proven=())


class StoreStanding(Value):
    """What one store holds of one database."""

    store: str
    copies: int
    newest_copy: str | None = Field(description="the newest that was read back")
    rpo_seconds: float | None = Field(description="writes of this time would be lost with it")
    behind_seconds: float = Field(description="how far behind the store that is ahead of all")


class Trend(Value):
    """How restores got slower or faster over the last drills."""

    seconds: tuple[float, ...] = Field(default=(), description="of the last drills, oldest first")
    seconds_per_day: float | None = Field(
        default=None, description="the slope; none for too few drills"
    )
    crosses_on: date | None = Field(
        default=None, description="when the target will be missed at this slope"
    )


class DatabaseStanding(Value):
    """How well one database is protected."""

    server: str
    database: str
    newest_copy: str
    age_seconds: float
    level: int = 0
    failed: bool = False
    size_bytes: int = 0
    rpo_seconds: float | None = Field(
        default=None, description="now - snapshot of the newest copy read back"
    )
    rpo_target_seconds: float = STANDARD.rpo_hours * 3600
    proof_age_seconds: float | None = Field(
        default=None, description="since a copy was compared last"
    )
    rto_seconds: float | None = Field(
        default=None,
        description="the last drill and the time to switch over; before one, the last proof",
    )
    rto_proof_of: str | None = Field(
        default=None, description="the copy whose proof measured that, where no drill did yet"
    )
    rto_target_seconds: float = STANDARD.rto_minutes * 60
    trend: Trend = Trend()
    stores: tuple[StoreStanding, ...] = ()
    fall: str | None = None
    skipped_total: int = 0
    skipped_in_a_row: int = 0
    orphans: int | None = Field(
        default=None, description="objects of no copy, left in its store by killed runs"
    )

    @computed_field  # type: ignore[prop-decorator]  # said to those who ask the server, too
    @property
    def verdict(self) -> Literal["kept", "missed", "unknown"]:
        """Whether both promises are kept by what was measured."""
        if self.rpo_seconds is None or self.rpo_seconds > self.rpo_target_seconds:
            return "missed"
        if self.rto_seconds is None:
            return "unknown"
        return "kept" if self.rto_seconds <= self.rto_target_seconds else "missed"


def stand(known: Known, now: datetime, targets: Targets = STANDARD) -> list[DatabaseStanding]:
    """Say of each database how well it is protected, by server and name."""
    return [_stand(copy, known, now, targets) for copy in known.newest]


def known_of(
    copies: Sequence[Copy], drills: Sequence[Drill] = (), measured: Sequence[Drill] = ()
) -> Known:
    """What a listing of one database says, from one store or several, in any order.

    Args:
        copies: Its copies.
        drills: Its drills.
        measured: What proofs of its copies measured.
    """
    ordered = sorted(copies, key=lambda copy: copy.snapshot_at, reverse=True)
    good = [copy for copy in ordered if not copy.failed]
    usable = {c.store: c for c in reversed(good) if c.level >= 1}
    proven = [c for c in good if c.level >= 3 and c.proven_at is not None]
    proven.sort(key=lambda copy: copy.proven_at or copy.snapshot_at, reverse=True)
    counts: dict[tuple[str, str, str], int] = {}
    for copy in copies:
        key = (copy.store, copy.server, copy.database)
        counts[key] = counts.get(key, 0) + 1
    return Known(
        newest=tuple((good or ordered)[:1]),
        oldest=tuple(ordered[-1:]),
        usable=tuple(usable[store] for store in sorted(usable)),
        proven=tuple(proven[:1]),
        fallen=tuple([copy for copy in ordered if copy.fall][:1]),
        counts=counts,
        drills=tuple(sorted(drills, key=lambda drill: drill.drilled_at)[-TREND_OF:]),
        measured=tuple(sorted(measured, key=lambda one: one.drilled_at)[-1:]),
    )


def trend_of(drills: Sequence[Drill], now: datetime, target_seconds: float) -> Trend:
    """Fit a line through the last drills and see when it crosses the target.

    Args:
        drills: Of one database, oldest first.
        now: The time it is.
        target_seconds: What restoring may take, switching over included.
    """
    points = [
        ((drill.drilled_at - now).total_seconds() / 86400, drill.seconds + SWITCH_SECONDS)
        for drill in drills
        if drill.seconds is not None
    ][-TREND_OF:]
    seconds = tuple(round(y, 1) for _, y in points)
    slope, today = _line(points)
    if slope is None or today is None:
        return Trend(seconds=seconds, seconds_per_day=None, crosses_on=None)
    crosses = None
    if today >= target_seconds:
        crosses = now.date()
    elif slope > 0 and (days := (target_seconds - today) / slope) <= _FARTHEST_DAYS:
        crosses = (now + timedelta(days=days)).date()
    return Trend(seconds=seconds, seconds_per_day=round(slope, 3), crosses_on=crosses)


def _stand(copy: Copy, known: Known, now: datetime, targets: Targets) -> DatabaseStanding:
    place = (copy.server, copy.database)
    of_it = [d for d in known.drills if (d.server, d.database) == place]
    proven = next((c for c in known.proven if (c.server, c.database) == place), None)
    fallen = next((c for c in known.fallen if (c.server, c.database) == place), None)
    runs = next((r for r in known.runs if (r.server, r.database) == place), None)
    stores = _stores(place, known, now)
    rpos = [store.rpo_seconds for store in stores if store.rpo_seconds is not None]
    drilled = [drill for drill in of_it if drill.seconds is not None][-1:]
    proof = [one for one in known.measured if (one.server, one.database) == place]
    measured = next((one for one in [*drilled, *proof] if one.seconds is not None), None)
    rto_target = targets.rto_minutes * 60
    return DatabaseStanding(
        server=copy.server,
        database=copy.database,
        newest_copy=copy.name,
        age_seconds=_age(copy.snapshot_at, now),
        level=int(copy.level),
        failed=copy.failed,
        size_bytes=copy.size_bytes,
        rpo_seconds=min(rpos, default=None),
        rpo_target_seconds=targets.rpo_hours * 3600,
        proof_age_seconds=_age(proven.proven_at, now) if proven and proven.proven_at else None,
        rto_seconds=round((measured.seconds or 0) + SWITCH_SECONDS, 1) if measured else None,
        rto_proof_of=measured.copy_name if measured and not drilled else None,
        rto_target_seconds=rto_target,
        trend=trend_of(of_it, now, rto_target),
        stores=stores,
        fall=fallen.fall if fallen else None,
        skipped_total=runs.skipped_total if runs else 0,
        skipped_in_a_row=runs.skipped_in_a_row if runs else 0,
        orphans=runs.orphans if runs else None,
    )


def _stores(place: tuple[str, str], known: Known, now: datetime) -> tuple[StoreStanding, ...]:
    newest = {c.store: c for c in known.usable if (c.server, c.database) == place}
    counts = {store: n for (store, *at), n in known.counts.items() if tuple(at) == place}
    ahead = max((copy.snapshot_at for copy in newest.values()), default=now)
    found = []
    for store in sorted(newest.keys() | counts.keys()):
        copy = newest.get(store)
        at = copy.snapshot_at if copy else None
        found.append(
            StoreStanding(
                store=store,
                copies=counts.get(store, 0),
                newest_copy=copy.name if copy else None,
                rpo_seconds=_age(at, now) if at else None,
                behind_seconds=(ahead - at).total_seconds() if at else _age(ahead, now),
            )
        )
    return tuple(found)


def _line(points: Sequence[tuple[float, float]]) -> tuple[float | None, float | None]:
    """The least-squares line through points (days from now, seconds): slope, and value now."""
    if len(points) < _FEWEST_FOR_A_TREND:
        return None, None
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    if spread == 0:
        return None, None
    slope = sum((x - mean_x) * (y - mean_y) for x, y in points) / spread
    return slope, mean_y - slope * mean_x


def _age(at: datetime, now: datetime) -> float:
    return round((now - at).total_seconds(), 1)
