"""What is left over: jobs that wait in vain, and attempts that should be over or that nobody heard.

A steward asks these questions now and then; each answer is acted on elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from flowforge.ledger.journal.breakers import NOT_HELD
from flowforge.ledger.journal.connection import run
from flowforge.ledger.journal.fragments import TELL
from flowforge.rules.jobs.states import End, State
from flowforge.rules.values import Value

_LIVE = "('starting', 'running', 'finishing')"


class Hopeless(Value):
    """A job without a worker that shall not get one."""

    job: str
    state: End
    reason: str


class Unheard(Value):
    """An attempt that lives although its job was asked to end."""

    job: str
    flow_run_id: str
    by: str


class Leftover(Value):
    """An attempt that is over; its flow run should be, too."""

    job: str
    flow_run_id: str
    state: State
    """Of the job."""


class Held(Value):
    """How a job stands, for whoever found something of one of its attempts."""

    job: str
    fence: int
    is_live: bool
    """Whether an attempt with this fence works on it."""


# A job that did something gets a last attempt, which keeps its patch; one that did nothing, or for
# which nobody came, ends here.
_HOPELESS = sa.text("""
SELECT id AS job,
       CASE WHEN cancel_requested_at IS NOT NULL THEN 'cancelled' ELSE 'timed_out' END AS state,
       CASE WHEN cancel_requested_at IS NOT NULL
            THEN 'cancelled by ' || coalesce(cancel_requested_by, 'somebody')
            ELSE 'its deadline passed while it was ' || state END AS reason
  FROM flowforge.jobs
 WHERE state IN ('queued', 'waiting')
   AND ((turns = 0 AND cancel_requested_at IS NOT NULL)
        OR cancel_requested_at <= now() - make_interval(secs => :patience)
        OR (turns = 0 AND deadline <= now())
        OR deadline <= now() - make_interval(secs => :patience))
""")

_WAKE = sa.text(f"""
UPDATE flowforge.jobs SET not_before = now()
 WHERE state = 'waiting' AND not_before > now() AND turns > 0
   AND deadline <= now()
RETURNING {TELL.format(job="id")}
""")

# An answer that came while the attempt was giving its place back woke nobody.
_WAKE_ANSWERED = sa.text(f"""
UPDATE flowforge.jobs j SET not_before = now()
 WHERE state = 'waiting' AND not_before > now() AND reason LIKE 'approval%'
   AND NOT EXISTS (SELECT FROM flowforge.approvals a
                    WHERE a.job = j.id AND a.state = 'asked' AND a.until > now())
RETURNING {TELL.format(job="j.id")}
""")

_WAKE_LET_IN = sa.text(f"""
UPDATE flowforge.jobs j SET not_before = now() WHERE not_before > now() AND {NOT_HELD}
RETURNING {TELL.format(job="j.id")}
""")

_UNHEARD = sa.text(f"""
SELECT j.id AS job, a.flow_run_id, coalesce(j.cancel_requested_by, 'somebody') AS by
  FROM flowforge.jobs j JOIN flowforge.attempts a ON a.job = j.id AND a.fence = j.fence
 WHERE j.state IN {_LIVE} AND a.flow_run_id IS NOT NULL
   AND j.cancel_requested_at <= now() - make_interval(secs => :grace)
""")

_LEFTOVERS = sa.text("""
SELECT a.job, a.flow_run_id, j.state
  FROM flowforge.attempts a JOIN flowforge.jobs j ON j.id = a.job
 WHERE a.flow_run_id IS NOT NULL
   AND a.ended_at BETWEEN now() - make_interval(secs => :since)
                      AND now() - make_interval(secs => :grace)
""")

_HELD = sa.text(f"""
SELECT id AS job, fence, state IN {_LIVE} AS is_live FROM flowforge.jobs WHERE id = ANY(:jobs)
""")


async def list_hopeless(engine: AsyncEngine, *, patience: float) -> list[Hopeless]:
    """Jobs without a worker that were cancelled, or whose deadline has passed.

    Args:
        engine: The ledger.
        patience: So many seconds a job that did something waits for the attempt that ends it.
    """
    return [Hopeless(**row) for row in await run(engine, _HOPELESS, {"patience": patience})]


async def wake_overdue(engine: AsyncEngine) -> int:
    """Make jobs due whose deadline passed while they wait, so that an attempt ends them."""
    return len(await run(engine, _WAKE))


async def wake_answered(engine: AsyncEngine) -> int:
    """Make jobs due that wait for a person and have every answer; how many."""
    return len(await run(engine, _WAKE_ANSWERED))


async def wake_let_in(engine: AsyncEngine) -> int:
    """Make jobs due that wait for an account which may be used again; how many."""
    return len(await run(engine, _WAKE_LET_IN))


async def list_unheard(engine: AsyncEngine, *, grace: float) -> list[Unheard]:
    """Attempts that go on although somebody asked, so many seconds ago, that their job ends."""
    return [Unheard(**row) for row in await run(engine, _UNHEARD, {"grace": grace})]


async def list_leftovers(engine: AsyncEngine, *, grace: float, since: float) -> list[Leftover]:
    """Attempts that ended between `since` and `grace` seconds ago and have a flow run."""
    bound = {"grace": grace, "since": since}
    return [Leftover(**row) for row in await run(engine, _LEFTOVERS, bound)]


async def how_held(engine: AsyncEngine, jobs: Iterable[str]) -> dict[str, Held]:
    """How jobs stand, by their ids; those that are in no journal are left out."""
    rows = await run(engine, _HELD, {"jobs": sorted(set(jobs))})
    return {row["job"]: Held(**row) for row in rows}
