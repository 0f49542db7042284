"""What the provider says of its models, asked once in a while: no submit waits for it for long."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from flowforge.engines.agent import listed_models
from flowforge.engines.agent.listed_models import NotSaid
from flowforge.rules.jobs import models
from flowforge.rules.jobs.accounts import Account
from flowforge.rules.jobs.models import ModelFacts
from flowforge.rules.jobs.spec import JobSpec
from flowforge.rules.jobs.submission import Problem

FRESH_SECONDS = 300.0
PATIENCE_SECONDS = 3.0
SILENT_SECONDS = 30.0
"""So long a provider that did not answer is not asked again."""

FindAccount = Callable[[], Awaitable[Account | None]]


class KnownModels:
    """The models of an account, as somebody asked about them last.

    Args:
        find_account: Says who pays; asked each time, since a key may have been replaced.
    """

    def __init__(self, find_account: FindAccount) -> None:
        self._find_account = find_account
        self._known: dict[str, tuple[ModelFacts, float]] = {}
        self._asked_again_at = 0.0

    async def check(self, spec: JobSpec) -> list[Problem]:
        """What the provider knows to be wrong with a job; nothing while it does not say.

        Nobody is refused for what was kept: then it is asked again.
        """
        facts, read_at = self._known.get(spec.model, (None, 0.0))
        now = time.monotonic()
        is_fresh = facts is not None and now - read_at < FRESH_SECONDS
        if is_fresh and not models.find_problems(spec, facts):
            return []
        if now < self._asked_again_at:
            return []
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                return models.find_problems(spec, await self._ask(spec.model))
        except (NotSaid, TimeoutError):
            self._asked_again_at = time.monotonic() + SILENT_SECONDS
            return []  # the flow that runs it asks again, and its first call tells

    async def _ask(self, name: str) -> ModelFacts | None:
        account = await self._find_account()
        if account is None:
            return ModelFacts(most_tokens=None)
        facts = await listed_models.facts_of(account, name, seconds=PATIENCE_SECONDS)
        if facts is not None:
            self._known[name] = (facts, time.monotonic())
        return facts
