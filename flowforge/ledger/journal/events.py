"""What happens in a job, numbered without a gap, to be read from any number on."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from flowforge.ledger.journal.connection import connected, fetch, run
from flowforge.ledger.journal.fragments import GUARD, TELL
from flowforge.ledger.journal.jobs import unknown
from flowforge.ledger.journal.leases import Lease, lost
from flowforge.ledger.journal.news import News
from flowforge.ledger.journal.text import storable_json
from flowforge.rules.jobs import states
from flowforge.rules.jobs.records import Event

POLL_SECONDS = 2.0
"""How long a reader that hears nothing waits before it looks for itself."""

# The count goes up in the job's row, so writers follow one another and a reader never sees a number
# before the smaller ones.
_ADD = sa.text("""
WITH counted AS (
  UPDATE flowforge.jobs SET events = events + :count
   WHERE id = :job AND (CAST(:fence AS bigint) IS NULL OR fence = :fence) RETURNING id, events
), written AS (
  INSERT INTO flowforge.events (job, seq, kind, data)
  SELECT c.id, c.events - :count + e.n, e.kind, e.data
    FROM counted c, unnest(CAST(:kinds AS text[]), CAST(:data AS text[]))
         WITH ORDINALITY AS e (kind, data, n)
) SELECT events AS last FROM counted
""")

# What the attempt's own count says was written before is left out.
_APPEND = sa.text(f"""
WITH {GUARD}, was AS (
  SELECT greatest(0, a.events - :before) AS known
    FROM flowforge.attempts a JOIN guard g ON a.job = g.id
   WHERE a.fence = :fence FOR NO KEY UPDATE OF a
), counted AS (
  UPDATE flowforge.jobs j SET events = j.events + :count - w.known
    FROM was w WHERE j.id = :job AND w.known < :count RETURNING j.id, j.events, w.known
), noted AS (
  UPDATE flowforge.attempts a SET events = :before + :count
    FROM counted c WHERE a.job = c.id AND a.fence = :fence
), written AS (
  INSERT INTO flowforge.events (job, seq, kind, data)
  SELECT c.id, c.events - :count + e.n, e.kind, e.data
    FROM counted c, unnest(CAST(:kinds AS text[]), CAST(:data AS text[]))
         WITH ORDINALITY AS e (kind, data, n)
   WHERE e.n > c.known
) SELECT (SELECT count(*) FROM counted) AS written FROM guard
""")

# In a transaction of its own: one that tells and writes would make all others that tell wait for
# its disk.
_TELL = sa.text(f"SELECT {TELL.format(job='CAST(:job AS text)')}")

_READ = sa.text("""
SELECT seq, at, kind, data FROM flowforge.events
 WHERE job = :job AND seq > :after ORDER BY seq LIMIT :limit
""")

_STATE = sa.text("SELECT state, events FROM flowforge.jobs WHERE id = :job")


Happened = Sequence[tuple[str, dict[str, Any]]]
"""Kind and data of events, in their order."""


async def append(
    engine: AsyncEngine, job: Lease | str, happened: Happened, *, before: int | None = None
) -> None:
    """Write down what happened and wake those who follow.

    Args:
        engine: The ledger.
        job: The attempt's lease; or the job's id, for what others did to it.
        happened: What happened.
        before: How many events this attempt has written before. With it, what is told again after
            a lost answer, alone or with more behind it, is written once; without it, it might be
            there twice, under two numbers.

    Raises:
        Fenced: The job is no longer this attempt's.
        Refused: There is no such job.
    """
    lease = job if isinstance(job, Lease) else None
    bound = {
        "job": lease.job if lease else job,
        "fence": lease.fence if lease else None,
        "count": len(happened),
        "kinds": [kind for kind, _ in happened],
        "data": [storable_json(data) for _, data in happened],
    }
    if lease is None or before is None:
        written = await _write(engine, _ADD, bound)
    else:
        written = await _write(engine, _APPEND, bound | {"before": before})
    if not written:
        raise lost(lease) if lease else unknown(str(job))


async def read(engine: AsyncEngine, job: str, *, after: int = 0, limit: int = 500) -> list[Event]:
    """The events that follow a number, in order.

    Args:
        engine: The ledger.
        job: Its id.
        after: The number of the last one known; 0 begins at the first.
        limit: How many at most.
    """
    rows = await run(engine, _READ, {"job": job, "after": after, "limit": limit})
    return [Event(**{**row, "data": json.loads(row["data"])}) for row in rows]


async def follow(
    engine: AsyncEngine, news: News, job: str, *, after: int = 0
) -> AsyncIterator[Event]:
    """Every event after a number, as it happens, until the job has ended and all are read.

    Raises:
        Refused: There is no such job.
    """
    with news.watch(job) as watch:
        while True:
            watch.seen()
            found = await run(engine, _STATE, {"job": job})
            if not found:
                raise unknown(job)
            batch = await read(engine, job, after=after)
            for event in batch:
                yield event
                after = event.seq
            if batch:
                continue
            if states.is_end(found[0]["state"]) and after >= found[0]["events"]:
                return
            await watch.wait(POLL_SECONDS)


async def _write(engine: AsyncEngine, statement: sa.TextClause, bound: dict[str, Any]) -> bool:
    """Write and tell, on one connection; whether there was something to write to."""
    async with connected(engine) as connection:
        if not await fetch(connection, statement, bound):
            return False
        await fetch(connection, _TELL, {"job": bound["job"]})
    return True
