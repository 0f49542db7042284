"""An attempt that ends before its job does: what an error means for the job, and giving it back."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine, Sequence
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine

from flowforge.engines.agent.endings import Ended, Parked
from flowforge.engines.agent.patience import patiently
from flowforge.errors import Busy, FlowForgeError, Unavailable
from flowforge.ledger.journal import leases
from flowforge.ledger.journal.leases import Lease
from flowforge.rules.jobs.records import Attempt
from flowforge.rules.jobs.steps import Ending

MOST_ATTEMPTS = 10
"""A job fails after so many attempts in a row that met something that is not there."""

_FIRST_PAUSE_SECONDS = 5.0
_LONGEST_PAUSE_SECONDS = 600.0
_GIVE_BACK_SECONDS = 8.0
_VAIN = "unavailable"
STOPPED = "its worker was stopped"


async def meaning(engine: AsyncEngine, lease: Lease, error: FlowForgeError) -> Ended | Parked:
    """What an error of the sandbox, the repository or a rule means for the job.

    Args:
        engine: The ledger.
        lease: Of the attempt that met it.
        error: The error.
    """
    if not isinstance(error, Unavailable):
        return Ended(Ending(state="failed", reason=f"{error.message} {error.hint}"))
    before = await patiently(lambda: leases.list_attempts(engine, lease.job))
    vain = count_vain(before)
    if vain >= MOST_ATTEMPTS:
        reason = f"{vain} attempts in a row met the same kind of trouble: {error.message}"
        return Ended(Ending(state="failed", reason=f"{reason} {error.hint}"))
    pause = min(_FIRST_PAUSE_SECONDS * 2.0**vain, _LONGEST_PAUSE_SECONDS)
    return Parked(f"{_VAIN}: {error.message}", pause)


def count_vain(attempts: Sequence[Attempt]) -> int:
    """How many attempts in a row, the living one included, came to nothing for want of something.

    Args:
        attempts: All of the job, oldest first; the last one lives.
    """
    vain = 1
    for attempt in reversed(attempts[:-1]):
        if not (attempt.end_reason or "").startswith(_VAIN):
            break
        vain += 1
    return vain


class Gone:
    """Whether the job was given back already."""

    is_over = False


@contextlib.asynccontextmanager
async def given_back(engine: AsyncEngine, lease: Lease) -> AsyncIterator[Gone]:
    """Give the job back when the block is left before it was.

    An attempt that was stopped goes on at once elsewhere. One that met a fault waits first, longer
    each time, so that a job which breaks its workers does not keep them busy.
    A worker that dies without this is found out by its dropped connection.
    """
    gone = Gone()
    try:
        yield gone
    except Busy:
        raise  # another attempt has the job, or it has ended
    except Exception as error:
        if not gone.is_over:
            await _give_back(_after_fault(engine, lease, error))
        raise
    except BaseException:
        if not gone.is_over:
            await _give_back(leases.release(engine, lease, "queued", STOPPED))
        raise
    if not gone.is_over:
        await leases.release(engine, lease, "queued", STOPPED)


async def _after_fault(engine: AsyncEngine, lease: Lease, error: Exception) -> None:
    said = error.message if isinstance(error, FlowForgeError) else f"{type(error).__name__}"
    fault = Unavailable(said, hint="Look into the log of its worker.")
    meant = await meaning(engine, lease, fault)
    if isinstance(meant, Parked):
        until = meant.until
        await leases.release(engine, lease, "waiting", meant.reason, not_before=until)
        return
    await leases.advance(engine, lease, "finishing", meant.ending.reason)
    await leases.release(engine, lease, meant.ending.state, meant.ending.reason)


async def _give_back(giving: Coroutine[Any, Any, None]) -> None:
    task = asyncio.ensure_future(giving)
    with contextlib.suppress(FlowForgeError, TimeoutError, asyncio.CancelledError):
        await asyncio.wait_for(asyncio.shield(task), _GIVE_BACK_SECONDS)
