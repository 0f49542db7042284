"""An attempt's right to write: the job and the fence it was given when it claimed it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from flowforge.errors import Busy, Damaged
from flowforge.ledger.journal.connection import Row, run
from flowforge.ledger.journal.fragments import GUARD, LOST, SPEND, TELL
from flowforge.ledger.journal.text import storable_json
from flowforge.rules.jobs import states
from flowforge.rules.jobs.records import Attempt
from flowforge.rules.values import Value


class Lease(Value):
    """The right of one attempt, until somebody else claims the job."""

    job: str
    fence: int


class Fenced(Busy):
    """Another attempt has the job, or it was deleted; this one ends and touches nothing more."""


_ADVANCE = sa.text(f"""
WITH {GUARD}, moved AS (
  UPDATE flowforge.jobs j SET state = :state, reason = :reason
    FROM guard g WHERE j.id = g.id AND (g.state = ANY(:before) OR g.state = :state)
  RETURNING {TELL.format(job="j.id")}
) SELECT state, (SELECT count(*) FROM moved) AS moved FROM guard
""")

_RELEASE = sa.text(f"""
WITH {GUARD}, fit AS (
  SELECT id FROM guard WHERE state = ANY(:before)
), {LOST.format(ended="fit")}, {SPEND}, released AS (
  UPDATE flowforge.jobs j
     SET state = :state, reason = :reason, not_before = CAST(:not_before AS timestamptz),
         lease_until = NULL, worker = NULL, reserved_usd = 0,
         unknown_usd = j.unknown_usd + j.reserved_usd,
         result = coalesce(:result, j.result), tree = coalesce(:tree, j.tree),
         ended_at = CASE WHEN :ends THEN now() END,
         callback = CASE WHEN :ends AND j.callback = 'wanted' THEN 'due' ELSE j.callback END,
         callback_at = CASE WHEN :ends THEN now() END
    FROM fit WHERE j.id = fit.id RETURNING {TELL.format(job="j.id")}
), ended AS (
  UPDATE flowforge.attempts a SET ended_at = now(), end_reason = coalesce(:reason, :state)
    FROM fit WHERE a.job = fit.id AND a.ended_at IS NULL
) SELECT state, (SELECT count(*) FROM released) AS moved FROM guard
""")

_NOTE = sa.text(f"""
WITH {GUARD}, noted AS (
  UPDATE flowforge.attempts a
     SET flow_run_id = coalesce(:flow_run_id, a.flow_run_id),
         sandbox_id = coalesce(:sandbox_id, a.sandbox_id)
    FROM guard g WHERE a.job = g.id AND a.fence = :fence
) SELECT count(*) AS held FROM guard HAVING count(*) > 0
""")

_ATTEMPTS = sa.text("""
SELECT fence, worker, flow_run_id, sandbox_id, started_at, ended_at, end_reason
  FROM flowforge.attempts WHERE job = :job ORDER BY fence
""")


async def guarded(
    engine: AsyncEngine,
    lease: Lease,
    statement: sa.TextClause,
    parameters: Mapping[str, Any] | None = None,
) -> Row:
    """Run a statement that begins with the guard, and return its only row.

    Raises:
        Fenced: The guard found nothing: the job is no longer this attempt's.
    """
    bound = {"job": lease.job, "fence": lease.fence, **(parameters or {})}
    rows = await run(engine, statement, bound)
    if not rows:
        raise lost(lease)
    return rows[0]


def lost(lease: Lease) -> Fenced:
    """The error of an attempt that writes without having the job any more."""
    return Fenced(
        f"Attempt {lease.fence} of {lease.job} has lost the job to another one.",
        hint="Nothing to do: the other attempt goes on from the last turn that was written.",
    )


async def advance(
    engine: AsyncEngine, lease: Lease, state: states.State, reason: str | None = None
) -> None:
    """Say that the attempt is now in another live state; saying it again changes nothing.

    Raises:
        Fenced: The job is no longer this attempt's.
        Damaged: This state does not follow the present one.
    """
    asked = {
        "state": state,
        "reason": reason,
        "before": _before(state),
    }
    _check_moved(lease, state, await guarded(engine, lease, _ADVANCE, asked))


async def release(
    engine: AsyncEngine,
    lease: Lease,
    state: states.State,
    reason: str | None = None,
    *,
    not_before: datetime | None = None,
    result: dict[str, Any] | None = None,
    tree: str | None = None,
) -> None:
    """Give the job back: to the queue, to wait, or at its end.

    Money still set aside counts as perhaps spent. The lock goes with `Presence.let_go`.

    Args:
        engine: The ledger.
        lease: The attempt's.
        state: `queued`, `waiting`, or an end.
        reason: What it waits for, or why it ended so.
        not_before: When it should be taken up again; at once without it.
        result: Kept with the job, for those who asked for it.
        tree: The last state of its workspace.

    Raises:
        Fenced: The job is no longer this attempt's.
        Damaged: This state does not follow the present one.
    """
    asked = {
        "state": state,
        "reason": reason,
        "before": _before(state),
        "not_before": not_before,
        "result": None if result is None else storable_json(result),
        "tree": tree,
        "ends": states.is_end(state),
    }
    _check_moved(lease, state, await guarded(engine, lease, _RELEASE, asked))


async def note(
    engine: AsyncEngine,
    lease: Lease,
    *,
    flow_run_id: str | None = None,
    sandbox_id: str | None = None,
) -> None:
    """Write down where the attempt runs, so that others can look after what it leaves behind.

    Raises:
        Fenced: The job is no longer this attempt's.
    """
    where = {"flow_run_id": flow_run_id, "sandbox_id": sandbox_id}
    await guarded(engine, lease, _NOTE, where)


async def list_attempts(engine: AsyncEngine, job: str) -> list[Attempt]:
    """All attempts of a job, oldest first."""
    return [Attempt(**row) for row in await run(engine, _ATTEMPTS, {"job": job})]


def _before(state: states.State) -> list[str]:
    """The states this one may follow."""
    return [other for other in states.LIVE if states.may_follow(other, state)]


def _check_moved(lease: Lease, state: states.State, row: Row) -> None:
    if not row["moved"] and row["state"] != state:
        raise Damaged(
            f"{lease.job} cannot go from {row['state']} to {state}.",
            hint="Report this: it is a fault of FlowForge. The job's journal is unharmed.",
        )
