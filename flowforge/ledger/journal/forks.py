"""A job that goes on from a turn of another one."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from flowforge.errors import Refused
from flowforge.ledger.journal.fragments import GUARD
from flowforge.ledger.journal.leases import Lease, guarded

_ADOPT = sa.text(f"""
WITH {GUARD}, fit AS (
  SELECT id FROM guard
   WHERE (SELECT count(*) FROM flowforge.turns
           WHERE job = :source AND n <= :last AND reply IS NOT NULL) = :last
), adopted AS (
  INSERT INTO flowforge.turns (job, n, fence, request_hash, model, reply, stop_reason, request_id,
                               cache_miss, started_at, ended_at)
  SELECT fit.id, n, :fence, request_hash, model, reply, stop_reason, request_id, cache_miss,
         started_at, ended_at
    FROM fit, flowforge.turns t WHERE t.job = :source AND t.n <= :last
  ON CONFLICT DO NOTHING
), tools AS (
  INSERT INTO flowforge.tool_calls (job, turn, tool_use_id, position, fence, name, input, result,
                                    is_error, tree, milliseconds, started_at, ended_at)
  SELECT fit.id, turn, tool_use_id, position, :fence, name, input, result, is_error, tree,
         milliseconds, started_at, ended_at
    FROM fit, flowforge.tool_calls t
   WHERE t.job = :source AND t.turn <= :last AND t.result IS NOT NULL
  ON CONFLICT DO NOTHING
), counted AS (
  UPDATE flowforge.jobs j SET turns = greatest(j.turns, :last) FROM fit WHERE j.id = fit.id
) SELECT EXISTS (SELECT FROM fit) AS fits FROM guard
""")


async def adopt(engine: AsyncEngine, lease: Lease, source: str, last: int) -> None:
    """Take over the finished turns of another job, up to one of them, without what they cost.

    Args:
        engine: The ledger.
        lease: The attempt's of the new job.
        source: The job it goes on from.
        last: The last turn that is taken over.

    Raises:
        Fenced: The job is no longer this attempt's.
        Refused: The source has not finished so many turns, or is gone.
    """
    row = await guarded(engine, lease, _ADOPT, {"source": source, "last": last})
    if not row["fits"]:
        raise Refused(
            f"{source} has not finished {last} turns to go on from.",
            hint="Fork from a turn that `flowforge job get` lists.",
        )
