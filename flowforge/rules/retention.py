"""Which copies may go. A pure rule, so that its laws can be tested.

The laws, each with a test:

1. Equal input gives equal output, and the order of the input does not matter.
2. The newest copy at every level from L1 up stays.
3. At least `min_proven` copies that were restored (L2 and up) stay.
4. Nothing goes unless the newest copy is younger than two schedule periods and at least L1.
5. An empty or incomplete listing deletes nothing.
6. Doing it twice is doing it once.
7. A hold beats every window.
8. A copy dated in the future stays, is said so, and counts for nothing.
9. A copy that was not proven fills no week or month while a proven one lies in it.
10. Days, weeks and months are those of UTC.
11. More than `max_delete_fraction` of the copies at once is refused.
12. Copies of two databases are never judged together.
13. While a copy holds far less than the one before, and nobody accepted that, nothing goes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Literal

from pydantic import Field

from flowforge.errors import Refused
from flowforge.rules.backups import Copy, Level
from flowforge.rules.values import Value

_FUTURE_SLACK = timedelta(minutes=5)


class Retention(Value):
    """How long copies are kept."""

    days: int = Field(default=30, ge=1, description="keep every copy this many days")
    weekly: int = Field(default=12, ge=0, description="then one a week, this many weeks")
    monthly: int = Field(default=12, ge=0, description="then one a month, this many months")
    min_proven: int = Field(
        default=3, ge=1, description="always keep this many copies that were restored once"
    )
    period_hours: float = Field(default=6, gt=0, description="how often copies are taken")
    max_delete_fraction: float = Field(
        default=0.25, gt=0, le=1, description="refuse to delete more than this part at once"
    )


STANDARD = Retention()
THIRTY_DAYS = Retention(days=30, weekly=0, monthly=0)


class Decision(Value):
    """What becomes of one copy, and why."""

    name: str
    action: Literal["keep", "expire"]
    reason: str


def choose_expired(
    copies: Sequence[Copy],
    policy: Retention,
    now: datetime,
    *,
    listing_complete: bool = True,
) -> tuple[Decision, ...]:
    """Decide for every copy of one database, newest first.

    Args:
        copies: All copies of the database in one store.
        policy: How long they are kept.
        now: The time it is.
        listing_complete: Whether the listing is known to be whole.

    Raises:
        Refused: The copies are of several databases, or too many would go at once.
    """
    if len({(c.system_identifier, c.server, c.database) for c in copies}) > 1:
        raise Refused(
            "Copies of several databases were to be judged together.",
            hint="Ask for one database at a time; a server that was replaced gets a new name.",
        )
    ordered = sorted(copies, key=lambda copy: (copy.snapshot_at, copy.name), reverse=True)
    future = [c for c in ordered if c.snapshot_at > now + _FUTURE_SLACK]
    past = ordered[len(future) :]
    reasons: dict[str, str] = {c.name: "dated in the future" for c in future}
    blocked = _why_nothing_may_go(past, policy, now, listing_complete)
    if blocked:
        reasons |= {c.name: blocked for c in past}
    else:
        for keep in (_held(past), _newest_by_level(past), _proven(past, policy)):
            reasons |= {name: why for name, why in keep.items() if name not in reasons}
        for name, why in _windows(past, policy, now).items():
            reasons.setdefault(name, why)
    decisions = tuple(
        Decision(name=c.name, action="keep", reason=reasons[c.name])
        if c.name in reasons
        else Decision(name=c.name, action="expire", reason="outside every window")
        for c in ordered
    )
    _check_not_too_many(decisions, policy)
    return decisions


def expired(decisions: Iterable[Decision]) -> tuple[str, ...]:
    """The names that may go, oldest first."""
    return tuple(reversed([d.name for d in decisions if d.action == "expire"]))


def _why_nothing_may_go(
    past: Sequence[Copy], policy: Retention, now: datetime, listing_complete: bool
) -> str | None:
    if not listing_complete:
        return "the listing was not complete"
    newest = past[0] if past else None
    if newest is None or now - newest.snapshot_at > timedelta(hours=2 * policy.period_hours):
        return "the newest copy is too old: nothing goes until there is a new one"
    if newest.failed or newest.level < Level.READ_BACK:
        return "the newest copy was not read back: nothing goes until one was"
    fallen = next((copy for copy in past if copy.fall), None)
    if fallen is not None:
        return f"{fallen.fall}: nothing goes until somebody accepts {fallen.name}"
    return None


def _held(past: Sequence[Copy]) -> dict[str, str]:
    return {c.name: "held" for c in past if c.held}


def _newest_by_level(past: Sequence[Copy]) -> dict[str, str]:
    keep: dict[str, str] = {}
    for level in (lv for lv in Level if lv >= Level.READ_BACK):
        newest = next((c for c in past if not c.failed and c.level >= level), None)
        if newest is not None:
            keep[newest.name] = f"the newest at {level.label}"
    return keep


def _proven(past: Sequence[Copy], policy: Retention) -> dict[str, str]:
    proven = [c for c in past if not c.failed and c.level >= Level.RESTORED]
    return {
        c.name: f"one of the last {policy.min_proven} proven" for c in proven[: policy.min_proven]
    }


def _windows(past: Sequence[Copy], policy: Retention, now: datetime) -> dict[str, str]:
    keep = {
        c.name: f"younger than {policy.days} days"
        for c in past
        if now - c.snapshot_at <= timedelta(days=policy.days)
    }
    weeks = [_week(now - timedelta(weeks=back)) for back in range(policy.weekly)]
    keep |= {n: w for n, w in _fill(past, weeks, _week, "week").items() if n not in keep}
    months = _months(now, policy.monthly)
    keep |= {n: m for n, m in _fill(past, months, _month, "month").items() if n not in keep}
    return keep


def _fill(
    past: Sequence[Copy], buckets: Sequence[str], bucket_of: Callable[[datetime], str], kind: str
) -> dict[str, str]:
    """One copy a bucket: the newest proven one, or the newest when none in it is proven."""
    inside: dict[str, list[Copy]] = {bucket: [] for bucket in buckets}
    for copy in past:
        inside.get(bucket_of(copy.snapshot_at), []).append(copy)
    keep: dict[str, str] = {}
    for bucket, found in inside.items():
        proven = [c for c in found if not c.failed and c.level >= Level.RESTORED]
        for chosen in (proven or found)[:1]:
            keep[chosen.name] = f"the copy of {kind} {bucket}"
    return keep


def _week(at: datetime) -> str:
    year, week, _ = at.astimezone(UTC).isocalendar()
    return f"{year}-W{week:02}"


def _month(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m}"


def _months(now: datetime, count: int) -> list[str]:
    year, month = now.astimezone(UTC).year, now.astimezone(UTC).month
    months = []
    for _ in range(count):
        months.append(f"{year:04}-{month:02}")
        year, month = (year, month - 1) if month > 1 else (year - 1, 12)
    return months


def _check_not_too_many(decisions: Sequence[Decision], policy: Retention) -> None:
    going = [d.name for d in decisions if d.action == "expire"]
    allowed = max(1, int(len(decisions) * policy.max_delete_fraction))
    if len(going) > allowed:
        raise Refused(
            f"{len(going)} of {len(decisions)} copies would go at once; {allowed} may.",
            hint="If that is meant, raise `max_delete_fraction` for one run. They are: "
            + ", ".join(going[:20]),
        )
