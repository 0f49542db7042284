"""A credential the provider no longer accepts is not used until somebody has seen to it.

While its breaker is open no call is made with it: its jobs stay in the queue.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from flowforge.ledger.journal.connection import run

_OPEN = sa.text("""
INSERT INTO flowforge.breakers (credential, reason, until)
VALUES (:credential, :reason, now() + make_interval(secs => CAST(:seconds AS double precision)))
ON CONFLICT (credential) DO UPDATE
  SET reason = excluded.reason, until = excluded.until, opened_at = now()
""")

_CLOSE = sa.text("DELETE FROM flowforge.breakers WHERE credential = :credential")

_READ = sa.text("""
SELECT reason FROM flowforge.breakers
 WHERE credential = :credential AND coalesce(until > now(), true)
""")


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


async def close_breaker(engine: AsyncEngine, credential: str) -> None:
    """Use a credential again; one that is in use already is fine."""
    await run(engine, _CLOSE, {"credential": credential})


async def why_open(engine: AsyncEngine, credential: str) -> str | None:
    """Why a credential is not used now; `None` when it is."""
    rows = await run(engine, _READ, {"credential": credential})
    return str(rows[0]["reason"]) if rows else None
