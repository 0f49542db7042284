"""The sandboxes that a worker gives to its jobs, as their profiles say."""

from __future__ import annotations

import asyncio

from blocks import lookup
from flowforge.engines.sandboxes import profiles
from flowforge.engines.sandboxes.sandbox import Sandbox
from flowforge.rules.jobs.profiles import Known
from flowforge.rules.jobs.spec import SandboxChoice


async def known() -> Known:
    """Every sandbox profile there is.

    Raises:
        Unavailable: Prefect's API did not say.
    """
    return await asyncio.to_thread(lookup.find_profiles)


class ByProfile:
    """Makes each sandbox as its profile says at that moment; it may have changed meanwhile."""

    async def open(self, job: str, fence: int, choice: SandboxChoice) -> Sandbox:
        """Make a sandbox for one attempt of a job.

        Raises:
            Refused: There is no such profile, it gives less than is asked for, or this machine
                cannot make a sandbox of its kind.
            Unavailable: It could not be had now.
        """
        provider = profiles.choose(choice, await known())
        return await provider.open(job, fence, choice)
