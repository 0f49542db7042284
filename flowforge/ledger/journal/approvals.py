"""Commands that wait for a person, and what the person said."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from flowforge.errors import Refused
from flowforge.ledger.journal.connection import run
from flowforge.ledger.journal.fragments import GUARD, TELL
from flowforge.ledger.journal.leases import Lease, guarded
from flowforge.rules.jobs.records import Approval

_ASK = sa.text(f"""
WITH {GUARD}, asked AS (
  INSERT INTO flowforge.approvals (job, turn, tool_use_id, command, state, until)
  SELECT id, :turn, :tool_use_id, :command, 'asked',
         now() + make_interval(secs => CAST(:seconds AS double precision)) FROM guard
  ON CONFLICT (job, turn, tool_use_id) DO NOTHING RETURNING {TELL.format(job="job")}
) SELECT (SELECT count(*) FROM asked) AS asked FROM guard
""")

_READ = """SELECT turn, tool_use_id, command, asked_at, until, answered_by, answered_at,
       CASE WHEN state = 'asked' AND until <= now() THEN 'denied' ELSE state END AS state
  FROM flowforge.approvals WHERE job = :job"""

_LIST = sa.text(f"{_READ} ORDER BY turn, asked_at")

_ONE = sa.text(f"{_READ} AND turn = :turn AND tool_use_id = :tool_use_id")

# A job that waits for the answer is due at once.
_ANSWER = sa.text(f"""
WITH answered AS (
  UPDATE flowforge.approvals SET state = :state, answered_by = :by, answered_at = now()
   WHERE job = :job AND turn = :turn AND tool_use_id = :tool_use_id AND state = 'asked'
     AND until > now()
  RETURNING job
), woken AS (
  UPDATE flowforge.jobs j SET not_before = now() FROM answered a
   WHERE j.id = a.job AND j.state = 'waiting'
) SELECT {TELL.format(job="job")} FROM answered
""")


async def ask(
    engine: AsyncEngine,
    lease: Lease,
    turn: int,
    tool_use_id: str,
    *,
    command: str,
    seconds: float,
) -> Approval:
    """Ask a person about a command, once; asked again, it tells how things stand.

    Args:
        engine: The ledger.
        lease: The attempt's.
        turn: Whose reply wants it.
        tool_use_id: As the model named the call.
        command: What would run.
        seconds: Without an answer in this time it counts as denied.

    Raises:
        Fenced: The job is no longer this attempt's.
    """
    which = {"turn": turn, "tool_use_id": tool_use_id}
    asked = which | {"command": command, "seconds": seconds}
    await guarded(engine, lease, _ASK, asked)
    return Approval(**(await run(engine, _ONE, which | {"job": lease.job}))[0])


async def answer(
    engine: AsyncEngine, job: str, turn: int, tool_use_id: str, *, granted: bool, by: str
) -> None:
    """Say yes or no; the same answer by the same person again is fine.

    Raises:
        Refused: Nobody asked, the time is over, or somebody answered before.
    """
    which = {"job": job, "turn": turn, "tool_use_id": tool_use_id}
    state = "granted" if granted else "denied"
    if await run(engine, _ANSWER, which | {"state": state, "by": by}):
        return
    found = [Approval(**row) for row in await run(engine, _ONE, which)]
    if found and (found[0].state, found[0].answered_by) == (state, by):
        return
    said = f"was {found[0].state} by {found[0].answered_by or 'time'}" if found else "was not asked"
    raise Refused(f"{tool_use_id} of {job} {said}.", hint="Look at `flowforge job get` again.")


async def list_approvals(engine: AsyncEngine, job: str) -> list[Approval]:
    """Every command of a job that waited or waits for a person, in order."""
    return [Approval(**row) for row in await run(engine, _LIST, {"job": job})]
