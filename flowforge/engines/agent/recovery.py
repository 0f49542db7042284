"""After a call that failed: wait as long as is asked for, or say what it means for the job."""

from __future__ import annotations

import asyncio
import contextlib
import random

from sqlalchemy.ext.asyncio import AsyncEngine

from flowforge.engines.agent.endings import Ended, Parked
from flowforge.engines.agent.happenings import Happenings
from flowforge.engines.agent.patience import patiently
from flowforge.errors import Unavailable
from flowforge.ledger.journal import breakers, rates
from flowforge.rules.jobs import accounts, retries
from flowforge.rules.jobs.retries import Failure
from flowforge.rules.jobs.steps import Ending

SPENT_SECONDS = 300.0
"""So long an account that has spent its limit is left alone; a key that is refused until somebody
says that it was put right."""

HELD_SECONDS = 3_600.0
"""So long a job waits at most; the steward wakes it as soon as its account may be used again."""


class Recovery:
    """Tells everybody who asks with the same account, too.

    Args:
        engine: The ledger.
        credential: The name of the account.
        models: The class of models that share a limit.
        happenings: Told what happens.
    """

    def __init__(
        self, engine: AsyncEngine, credential: str, models: str, happenings: Happenings
    ) -> None:
        self._engine, self._credential, self._models = engine, credential, models
        self._happenings = happenings

    async def check(self) -> None:
        """Make sure that the account may be used.

        Raises:
            Parked: It is not accepted; it is left alone.
        """
        why = await patiently(lambda: breakers.why_open(self._engine, self._credential))
        if why is not None:
            raise Parked(accounts.held(self._credential, why), HELD_SECONDS)

    async def recover(self, n: int | None, call: int, failures: list[Failure]) -> None:
        """Wait as long as the last failure asks for.

        Args:
            n: The turn; `None` before its first call.
            call: Which of its calls failed.
            failures: All failures in a row, this one last.

        Raises:
            Ended: Another call would change nothing.
            Parked: The account is not accepted, or the wait is too long to hold a place.
        """
        failure = failures[-1]
        await self._judge(failure, failures)
        if failure.kind == "rate":
            with contextlib.suppress(Unavailable):  # it is only slower without
                await rates.refuse(
                    self._engine, self._credential, self._models, failure.after_seconds or 1.0
                )
        if failure.kind == "overloaded":
            with contextlib.suppress(Unavailable):
                await rates.put_off_growth(self._engine, self._credential, self._models)
        seconds = retries.wait_seconds(len(failures), failure, random.random())
        why = failure.message
        await self._happenings.add("retry", n=n, call=call, why=why, wait_seconds=seconds)
        if seconds > retries.LONGEST_WAIT_SECONDS:
            raise Parked(f"rate: {why}", seconds)
        if len(failures) < retries.MOST_CALLS:
            await asyncio.sleep(seconds)

    async def _judge(self, failure: Failure, failures: list[Failure]) -> None:
        """Raise what a failure means that another call would not change."""
        if failure.kind in ("credential", "spend"):
            seconds = SPENT_SECONDS if failure.kind == "spend" else None
            why = self._happenings.mask(failure.message)
            await patiently(
                lambda: breakers.open_breaker(self._engine, self._credential, why, seconds=seconds)
            )
            raise Parked(accounts.held(self._credential, why), HELD_SECONDS)
        if failure.kind == "too_long":
            raise Ended(Ending(state="context_exceeded", reason=failure.message))
        if failure.kind == "request":
            reason = f"the model's API refused: {failure.message}"
            raise Ended(Ending(state="failed", reason=reason))
        garbled = sum(other.kind == "malformed" for other in failures)
        if garbled >= retries.MOST_MALFORMED:
            reason = f"{garbled} replies named a tool with an input that is no JSON"
            raise Ended(Ending(state="failed", reason=reason))
