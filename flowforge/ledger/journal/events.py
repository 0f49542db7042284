"""What happens in a job, numbered without a gap, to be read from any number on."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from flowforge.ledger.journal.connection import fetch, run, translated
from flowforge.ledger.journal.fragments import TELL
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
_APPEND = sa.text("""
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

# In a transaction of its own: one that tells and writes would make all others that tell wait for
# its disk.
_TELL = sa.text(f"SELECT {TELL.format(job='CAST(:job AS text)')}")

_READ = sa.text("""
SELECT seq, at, kind, data FROM flowforge.events
 WHERE job = :job AND seq > :after ORDER BY seq LIMIT :limit
""")

_STATE = sa.text("SELECT state, events FROM flowforge.jobs WHERE id = :job")


async def append(
    engine: AsyncEngine, job: Lease | str, happened: Sequence[tuple[str, dict[str, Any]]]
) -> int:
    """Write down what happened and wake those who follow.

    Unlike the other writes, one whose answer was lost must not be repeated by machines that count:
    the events would be there twice, under two numbers.

    Args:
        engine: The ledger.
        job: The attempt's lease; or the job's id, for what others did to it.
        happened: Kind and data of each event, in order.

    Returns:
        The number of the last one.

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
    async with translated(engine), engine.connect() as connection:
        rows = await fetch(connection, _APPEND, bound)
        if rows:
            await fetch(connection, _TELL, {"job": bound["job"]})
            return int(rows[0]["last"])
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
