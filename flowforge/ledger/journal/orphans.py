"""Jobs whose worker is gone, and jobs whose time has come: what a steward looks at every tick."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from flowforge.ledger.journal.connection import run
from flowforge.ledger.journal.fragments import CALL_WORKER, GONE, LOST, SPEND, TELL
from flowforge.rules.values import Value

GRACE_SECONDS = 30
"""A PostgreSQL that has just started holds nobody's locks: so long only leases are looked at, while
the processes that live take their locks again."""


class Orphan(Value):
    """A job whose worker is gone."""

    job: str
    fence: int
    worker: str
    why: str
    flow_run_id: str | None
    sandbox_id: str | None


_ORPHANS = sa.text(f"""
SELECT j.id AS job, j.fence, j.worker, a.flow_run_id, a.sandbox_id,
       CASE WHEN j.lease_until < clock_timestamp() THEN 'its lease ran out'
            ELSE 'its worker was gone' END AS why
  FROM flowforge.jobs j LEFT JOIN flowforge.attempts a ON a.job = j.id AND a.fence = j.fence
 WHERE j.state IN ('starting', 'running', 'finishing') AND {GONE}
 ORDER BY j.priority DESC, j.id
""")

# The fence goes up here already: a worker that lives after all is refused from now on.
_REQUEUE = sa.text(f"""
WITH guard AS (
  SELECT id, tenant, lease_until FROM flowforge.jobs j
   WHERE id = :job AND fence = :fence AND state IN ('starting', 'running', 'finishing') AND {GONE}
     FOR NO KEY UPDATE
), {LOST.format(ended="guard")}, {SPEND}, requeued AS (
  UPDATE flowforge.jobs j
     SET state = 'queued', reason = :why, fence = j.fence + 1, worker = NULL, lease_until = NULL,
         not_before = NULL, reserved_usd = 0, unknown_usd = j.unknown_usd + j.reserved_usd
    FROM guard g WHERE j.id = g.id RETURNING {TELL.format(job="j.id")},
      {CALL_WORKER.format(job="j.id")}
), ended AS (
  UPDATE flowforge.attempts a SET ended_at = least(now(), g.lease_until), end_reason = :why
    FROM guard g WHERE a.job = g.id AND a.ended_at IS NULL
) SELECT count(*) AS moved FROM requeued
""")


class Due(Value):
    """A job that may be taken up now."""

    job: str
    fence: int
    priority: int
    key: str | None
    flow_run_id: str | None
    """Where its last attempt ran, unless that was cut off."""


_DUE = sa.text("""
SELECT j.id AS job, j.fence, j.priority, j.key, a.flow_run_id
  FROM flowforge.jobs j LEFT JOIN flowforge.attempts a ON a.job = j.id AND a.fence = j.fence
 WHERE j.state IN ('queued', 'waiting')
   AND coalesce(j.not_before, j.created_at) <= clock_timestamp()
 ORDER BY j.priority DESC, j.id LIMIT :limit
""")


async def list_orphans(engine: AsyncEngine, *, grace: float = GRACE_SECONDS) -> list[Orphan]:
    """Jobs whose worker is gone: its connection dropped, or its lease ran out."""
    return [Orphan(**row) for row in await run(engine, _ORPHANS, {"grace": grace})]


async def requeue(engine: AsyncEngine, orphan: Orphan, *, grace: float = GRACE_SECONDS) -> bool:
    """Put an orphan back into the queue, unless somebody has it again; whether it was put back."""
    bound = {"job": orphan.job, "fence": orphan.fence, "why": orphan.why, "grace": grace}
    return bool((await run(engine, _REQUEUE, bound))[0]["moved"])


async def list_due(engine: AsyncEngine, *, limit: int = 100) -> list[Due]:
    """Jobs that may be taken up now: by priority, then by age."""
    return [Due(**row) for row in await run(engine, _DUE, {"limit": limit})]
