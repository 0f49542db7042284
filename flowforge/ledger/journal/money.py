"""Money: set aside before a call, settled after it, so that a limit is never exceeded.

Three limits hold: the job's own, its tenant's for the day, everybody's for the day. A day is one of
UTC, and a call is charged to the day it began on.
"""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from flowforge.errors import Damaged
from flowforge.ledger.journal.connection import run
from flowforge.ledger.journal.fragments import GUARD, SPEND, TOKENS
from flowforge.ledger.journal.leases import Lease, guarded
from flowforge.rules.jobs import budgets
from flowforge.rules.jobs.budgets import Reservation
from flowforge.rules.jobs.prices import Usage
from flowforge.rules.jobs.records import Call, CallOutcome
from flowforge.rules.values import Value

EVERYONE = "everyone"
NO_TOKENS = Usage()

SETTLE = f"""was AS (
  SELECT u.outcome, u.unknown_usd FROM flowforge.usage u, guard g
   WHERE u.job = g.id AND u.turn = :turn AND u.call = :call AND u.outcome IN ('reserved', 'unknown')
     FOR NO KEY UPDATE OF u
), due AS (
  UPDATE flowforge.usage u
     SET outcome = :outcome, usd = :usd, unknown_usd = :unknown_usd, price_from = :price_from,
         {", ".join(f"{name} = :{name}" for name in TOKENS)}
    FROM was w WHERE u.job = :job AND u.turn = :turn AND u.call = :call
  RETURNING u.day, CASE WHEN w.outcome = 'reserved' THEN u.reserved_usd ELSE 0 END AS reserved_usd,
            u.usd, u.unknown_usd - w.unknown_usd AS unknown_usd
), charged AS (
  UPDATE flowforge.jobs j
     SET cost_usd = j.cost_usd + d.usd, reserved_usd = j.reserved_usd - d.reserved_usd,
         unknown_usd = j.unknown_usd + d.unknown_usd, turns = greatest(j.turns, :finished),
         rehearsal = j.rehearsal OR :rehearsal,
         {", ".join(f"{name} = j.{name} + :{name}" for name in TOKENS)}
    FROM due d WHERE j.id = :job
), {SPEND}"""
"""Settles one call on the job and on both days' budgets; takes what `settlement` returns.

A call that counted as perhaps spent is settled, too, once it is known what became of it."""

_RESERVE = sa.text(f"""
WITH held AS (
  SELECT id, tenant, limit_usd - cost_usd - reserved_usd - unknown_usd AS left_usd
    FROM flowforge.jobs WHERE id = :job AND fence = :fence FOR NO KEY UPDATE
), locked AS (
  SELECT s.scope, b.usd_per_day - s.spent_usd - s.reserved_usd - s.unknown_usd AS left_usd
    FROM flowforge.spending s
    JOIN held h ON s.scope IN ('{EVERYONE}', 'tenant:' || h.tenant) AND s.day = current_date
    LEFT JOIN flowforge.budgets b ON b.scope = s.scope
   ORDER BY s.scope FOR NO KEY UPDATE OF s
), seen AS (
  SELECT count(*) AS days, min(left_usd) FILTER (WHERE scope = '{EVERYONE}') AS everyone_left,
         min(left_usd) FILTER (WHERE scope <> '{EVERYONE}') AS tenant_left FROM locked
), verdict AS (
  SELECT h.id, h.left_usd AS job_left, s.*,
         EXISTS (SELECT FROM flowforge.usage WHERE job = :job AND turn = :turn AND call = :call
                    AND fence = :fence AND outcome = 'reserved') AS repeated
    FROM held h, seen s
), granted AS (
  SELECT id FROM verdict
   WHERE days = 2 AND NOT repeated
     AND CAST(:usd AS numeric) <= least(job_left, tenant_left, everyone_left)
), noted AS (
  INSERT INTO flowforge.usage (job, turn, call, fence, outcome, model, day, reserved_usd)
  SELECT id, :turn, :call, :fence, 'reserved', :model, current_date, :usd FROM granted
), set_aside AS (
  UPDATE flowforge.jobs j SET reserved_usd = j.reserved_usd + :usd FROM granted g WHERE j.id = g.id
), counted AS (
  UPDATE flowforge.spending s SET reserved_usd = s.reserved_usd + :usd
    FROM granted, locked l WHERE s.scope = l.scope AND s.day = current_date
)
SELECT job_left, tenant_left, everyone_left, days, repeated OR EXISTS (SELECT FROM granted)
       AS granted FROM verdict
""")

_NEW_DAY = sa.text(f"""
INSERT INTO flowforge.spending (scope, day)
SELECT scope, current_date FROM flowforge.jobs, unnest(ARRAY['{EVERYONE}', 'tenant:' || tenant])
       AS scope WHERE id = :job
    ON CONFLICT DO NOTHING
""")

_SETTLE = sa.text(f"""
WITH {GUARD}, {SETTLE}
SELECT (SELECT count(*) FROM due) AS settled,
       EXISTS (SELECT FROM flowforge.usage
                WHERE job = :job AND turn = :turn AND call = :call AND fence = :fence
                  AND outcome = :outcome) AS there
  FROM guard
""")

_LIMIT = sa.text("""
INSERT INTO flowforge.budgets (scope, usd_per_day, set_by) VALUES (:scope, :usd, :by)
ON CONFLICT (scope) DO UPDATE
  SET usd_per_day = excluded.usd_per_day, set_by = excluded.set_by, set_at = now()
""")

_NO_LIMIT = sa.text("DELETE FROM flowforge.budgets WHERE scope = :scope")

_SPENDING = sa.text("""
SELECT s.scope, s.day, s.spent_usd, s.reserved_usd, s.unknown_usd, b.usd_per_day
  FROM flowforge.spending s LEFT JOIN flowforge.budgets b ON b.scope = s.scope
 WHERE s.day > current_date - CAST(:days AS integer) ORDER BY s.day DESC, s.scope
""")

_CALLS = sa.text(f"""
SELECT turn, call, outcome, model, usd, reserved_usd, unknown_usd, price_from, at,
       {", ".join(TOKENS)} FROM flowforge.usage WHERE job = :job ORDER BY turn, call
""")


async def reserve(
    engine: AsyncEngine, lease: Lease, turn: int, call: int, usd: Decimal, model: str
) -> Reservation:
    """Set money aside for one call; asking again for the same call changes nothing.

    Args:
        engine: The ledger.
        lease: The attempt's.
        turn: Of the call.
        call: Its number in the turn; calls of earlier attempts count.
        usd: The most it may cost.
        model: Which model is asked.

    Returns:
        Whether it was set aside in full, and what is left. Nothing is set aside in part.

    Raises:
        Fenced: The job is no longer this attempt's.
    """
    asked = {"turn": turn, "call": call, "usd": usd, "model": model}
    row = await guarded(engine, lease, _RESERVE, asked)
    while row["days"] < len((EVERYONE, "tenant")):  # the first call of a day opens its accounts
        await run(engine, _NEW_DAY, {"job": lease.job})
        row = await guarded(engine, lease, _RESERVE, asked)
    return budgets.judge(
        usd,
        row["job_left"],
        row["tenant_left"],
        row["everyone_left"],
        granted=row["granted"],
    )


async def settle(
    engine: AsyncEngine,
    lease: Lease,
    turn: int,
    call: int,
    outcome: CallOutcome,
    *,
    usage: Usage = NO_TOKENS,
    usd: Decimal = Decimal(0),
    unknown_usd: Decimal = Decimal(0),
    price_from: str | None = None,
) -> None:
    """Say what became of a call that brought no reply; `turns.finish` does it for one that did.

    Args:
        engine: The ledger.
        lease: The attempt's.
        turn: Of the call.
        call: Its number in the turn.
        outcome: `failed` when nothing was billed, `lost` when it was cut after it began.
        usage: The tokens it is known to have used.
        usd: What they cost.
        unknown_usd: The most that was billed beyond that.
        price_from: The day from which the price holds.

    Raises:
        Fenced: The job is no longer this attempt's.
        Damaged: No money was set aside for this call, or it was settled differently.
    """
    told = settlement(turn, call, outcome, usage, usd, unknown_usd, price_from) | {"finished": 0}
    row = await guarded(engine, lease, _SETTLE, told)
    if not row["settled"] and not row["there"]:
        raise unreserved(lease, turn, call)


def settlement(
    turn: int,
    call: int,
    outcome: CallOutcome,
    usage: Usage,
    usd: Decimal,
    unknown_usd: Decimal,
    price_from: str | None,
) -> dict[str, Any]:
    """What the statement part `SETTLE` takes, but for `finished`: the number of a finished turn."""
    return {
        "rehearsal": False,
        "turn": turn,
        "call": call,
        "outcome": outcome,
        "usd": usd,
        "unknown_usd": unknown_usd,
        "price_from": price_from,
        **usage.model_dump(),
    }


def unreserved(lease: Lease, turn: int, call: int) -> Damaged:
    """The error of a call that is settled without having been reserved."""
    return Damaged(
        f"Call {call} of turn {turn} of {lease.job} is settled, but was not set aside like that.",
        hint="Report this: it is a fault of FlowForge. Compare `flowforge job cost` with the bill.",
    )


async def list_calls(engine: AsyncEngine, job: str) -> list[Call]:
    """Every call a job made, in order: what it used and cost."""
    calls = []
    for row in await run(engine, _CALLS, {"job": job}):
        usage = {name: row[name] for name in TOKENS}
        calls.append(Call(**{n: row[n] for n in row if n not in usage}, usage=Usage(**usage)))
    return calls


class Spending(Value):
    """What was spent on one day of UTC, by one tenant or everybody."""

    scope: str
    """`everyone`, or `tenant:` and its name."""

    day: date
    spent_usd: Decimal
    reserved_usd: Decimal
    unknown_usd: Decimal
    usd_per_day: Decimal | None
    """Its limit as it is now; `None`: none."""


async def list_spending(engine: AsyncEngine, *, days: int = 1) -> list[Spending]:
    """What was spent on the last days, newest first."""
    return [Spending(**row) for row in await run(engine, _SPENDING, {"days": days})]


async def set_limit(
    engine: AsyncEngine, usd_per_day: Decimal | None, by: str, *, tenant: str | None = None
) -> None:
    """Limit what may be spent in a day, from now on.

    Args:
        engine: The ledger.
        usd_per_day: US dollars; `None` takes the limit away.
        by: Who says so.
        tenant: Whose; without one, everybody's together.
    """
    scope = EVERYONE if tenant is None else f"tenant:{tenant}"
    if usd_per_day is None:
        await run(engine, _NO_LIMIT, {"scope": scope})
    else:
        await run(engine, _LIMIT, {"scope": scope, "usd": usd_per_day, "by": by})
