"""An attempt that ends before its job does: what an error means for the job, and giving it back."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from sqlalchemy.ext.asyncio import AsyncEngine

from flowforge.engines.agent.calling import Ended, Parked
from flowforge.errors import Busy, FlowForgeError, Unavailable
from flowforge.ledger.journal import leases
from flowforge.ledger.journal.leases import Lease
from flowforge.rules.jobs.steps import Ending

MOST_ATTEMPTS = 10
"""A job whose attempts all meet something that is not there fails after so many."""

_FIRST_PAUSE_SECONDS = 5.0
_LONGEST_PAUSE_SECONDS = 600.0
_GIVE_BACK_SECONDS = 8.0
STOPPED = "its worker was stopped"


def meaning(error: FlowForgeError, attempts: int) -> Ended | Parked:
    """What an error of the sandbox, the repository or a rule means for the job.

    Args:
        error: The error.
        attempts: How many attempts there were, this one included.
    """
    if isinstance(error, Unavailable) and attempts < MOST_ATTEMPTS:
        pause = min(_FIRST_PAUSE_SECONDS * 2.0**attempts, _LONGEST_PAUSE_SECONDS)
        return Parked(f"unavailable: {error.message}", pause)
    return Ended(Ending(state="failed", reason=f"{error.message} {error.hint}"))


@contextlib.asynccontextmanager
async def given_back(engine: AsyncEngine, lease: Lease) -> AsyncIterator[None]:
    """Give the job back to the queue when the block fails or is stopped; it goes on at once.

    A worker that dies without this is found out by its dropped connection.
    """
    try:
        yield
    except Busy:
        raise  # another attempt has the job, or it has ended
    except BaseException:
        giving = asyncio.ensure_future(leases.release(engine, lease, "queued", STOPPED))
        with contextlib.suppress(FlowForgeError, TimeoutError, asyncio.CancelledError):
            await asyncio.wait_for(asyncio.shield(giving), _GIVE_BACK_SECONDS)
        raise
