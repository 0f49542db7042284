"""A credential the provider no longer accepts is not used until somebody has seen to it.

While its breaker is open no call is made with it: its jobs wait. The steward wakes them when it is
closed or its time has come.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from flowforge.ledger.journal.connection import run
from flowforge.ledger.journal.fragments import TELL
from flowforge.rules.jobs.accounts import HELD
from flowforge.rules.jobs.records import Breaker
from flowforge.rules.values import Value

_HOLDS = f"j.state = 'waiting' AND starts_with(j.reason, '{HELD}' || {{credential}} || ': ')"
_IS_OPEN = "coalesce(b.until > now(), true)"

NOT_HELD = f"""j.state = 'waiting' AND starts_with(j.reason, '{HELD}')
   AND NOT EXISTS (SELECT FROM flowforge.breakers b
                    WHERE {_IS_OPEN} AND {_HOLDS.format(credential="b.credential")})"""
"""Whether job `j` waits for an account that may be used again."""

_OPEN = sa.text("""
INSERT INTO flowforge.breakers (credential, reason, until)
VALUES (:credential, :reason, now() + make_interval(secs => CAST(:seconds AS double precision)))
ON CONFLICT (credential) DO UPDATE
  SET reason = excluded.reason, until = excluded.until, opened_at = now()
""")

_CLOSE = sa.text(f"""
WITH closed AS (
  DELETE FROM flowforge.breakers b WHERE b.credential = :credential RETURNING {_IS_OPEN} AS was_open
), told AS MATERIALIZED (
  SELECT {TELL.format(job="j.id")} FROM flowforge.jobs j
   WHERE {_HOLDS.format(credential="CAST(:credential AS text)")}
)
SELECT coalesce((SELECT was_open FROM closed), false) AS was_open,
       (SELECT count(*) FROM told) AS jobs
""")

_LIST = sa.text(f"""
SELECT b.credential AS account, b.reason, b.opened_at, b.until, count(j.id) AS jobs,
       coalesce(array_agg(DISTINCT j.model) FILTER (WHERE j.id IS NOT NULL), '{{}}') AS models
  FROM flowforge.breakers b LEFT JOIN flowforge.jobs j
    ON {_HOLDS.format(credential="b.credential")}
 WHERE {_IS_OPEN} GROUP BY b.credential ORDER BY b.credential
""")

_READ = sa.text(f"""
SELECT reason FROM flowforge.breakers b WHERE b.credential = :credential AND {_IS_OPEN}
""")


class Closed(Value):
    """What it meant to close a breaker."""

    was_open: bool
    jobs: int
    """How many waited for it, and go on."""


async def open_breaker(
    engine: AsyncEngine, credential: str, reason: str, *, seconds: float | None = None
) -> None:
    """Stop using a credential.

    Args:
        engine: The ledger.
        credential: Its name, never the key.
        reason: What the provider said.
        seconds: It is tried again after so long; `None`: not before somebody closes the breaker.
    """
    bound = {"credential": credential, "reason": reason, "seconds": seconds}
    await run(engine, _OPEN, bound)


async def close_breaker(engine: AsyncEngine, credential: str) -> Closed:
    """Use a credential again; one that is in use already is fine."""
    return Closed(**(await run(engine, _CLOSE, {"credential": credential}))[0])


async def list_breakers(engine: AsyncEngine) -> list[Breaker]:
    """The breakers that are open, by the names of their credentials."""
    return [Breaker(**row) for row in await run(engine, _LIST)]


async def why_open(engine: AsyncEngine, credential: str) -> str | None:
    """Why a credential is not used now; `None` when it is."""
    rows = await run(engine, _READ, {"credential": credential})
    return str(rows[0]["reason"]) if rows else None
