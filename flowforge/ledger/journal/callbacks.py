"""Who is to be told that a job has ended, and whether that worked."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from flowforge.ledger.journal.connection import run

LONGEST_PAUSE_SECONDS = 3600
MOST_TRIES = 12

# Taking one puts it off, so that of several who look only one tells, and a later one tells again
# what a dead one took.
_TAKE = sa.text("""
UPDATE flowforge.jobs j
   SET callback_tries = j.callback_tries + 1,
       callback_at = now() + make_interval(secs => least(:longest, 5 * 2 ^ j.callback_tries))
  FROM (SELECT id FROM flowforge.jobs WHERE callback = 'due' AND callback_at <= now()
         ORDER BY callback_at LIMIT :limit FOR NO KEY UPDATE SKIP LOCKED) AS next
 WHERE j.id = next.id RETURNING j.id
""")

_TOLD = sa.text("""
UPDATE flowforge.jobs
   SET callback = CASE WHEN :told THEN 'told'
                       WHEN callback_tries >= :most THEN 'given_up' ELSE callback END
 WHERE id = :job AND callback = 'due'
""")


async def take_due(engine: AsyncEngine, *, limit: int = 10) -> list[str]:
    """The jobs whose end somebody has to be told of now; each is handed out to one caller."""
    rows = await run(engine, _TAKE, {"limit": limit, "longest": LONGEST_PAUSE_SECONDS})
    return [str(row["id"]) for row in rows]


async def record(engine: AsyncEngine, job: str, *, told: bool) -> None:
    """Say whether telling worked; after `MOST_TRIES` it is given up."""
    await run(engine, _TOLD, {"job": job, "told": told, "most": MOST_TRIES})
