"""Remove the sandboxes that attempts of jobs left behind, wherever a profile has some made."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from flowforge.engines.agent import stewarding
from flowforge.engines.sandboxes.profiles import provider_of
from flowforge.engines.sandboxes.sandbox import Provider
from flowforge.rules.jobs.profiles import DEFAULT, Known, Profile
from flowforge.server.journal import Journal
from flowforge.server.patience import Patience

INTERVAL_SECONDS = 15.0


class Sweeper:
    """Sweeps every place by itself, so that one that is down keeps nobody.

    Args:
        journal: Where jobs are.
        profiles: Tells the profiles there are. A place is swept also after its profile went, as
            its sandboxes may outlive it.
        interval_seconds: Between two looks at a place, and at the profiles.
    """

    def __init__(
        self,
        journal: Journal,
        profiles: Callable[[], Awaitable[Known]],
        interval_seconds: float = INTERVAL_SECONDS,
    ) -> None:
        self._journal, self._profiles = journal, profiles
        self._interval_seconds = interval_seconds
        self._swept: set[str] = set()

    async def run(self) -> None:
        """Sweep until cancelled; this machine in any case."""
        patience = Patience("sandbox profiles")
        async with asyncio.TaskGroup() as group:
            await self._begin(group, DEFAULT)
            while True:
                await patience.attempt(lambda: self._learn(group))
                await asyncio.sleep(self._interval_seconds)

    async def _learn(self, group: asyncio.TaskGroup) -> None:
        for profile in (await self._profiles()).values():
            if isinstance(profile, Profile):
                await self._begin(group, profile)

    async def _begin(self, group: asyncio.TaskGroup, profile: Profile) -> None:
        """Sweep the place of a profile from now on, unless it is swept already."""
        if profile.where not in self._swept:
            self._swept.add(profile.where)
            # The clients of some kinds take seconds to import.
            provider = await asyncio.to_thread(provider_of, profile)
            group.create_task(self._keep_clean(provider, profile.where))

    async def _keep_clean(self, provider: Provider, where: str) -> None:
        patience = Patience(f"sandboxes of jobs, {where}")
        suspects: frozenset[str] = frozenset()

        async def sweep() -> None:
            nonlocal suspects
            suspects = await stewarding.sweep_sandboxes(self._journal.engine, provider, suspects)

        while True:
            await patience.attempt(sweep)
            await asyncio.sleep(self._interval_seconds)
