"""The sandboxes that a worker gives to its jobs, as their profiles say, and secrets beside them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from blocks import lookup
from flowforge.engines.sandboxes import profiles
from flowforge.engines.sandboxes.sandbox import Sandbox
from flowforge.errors import Refused
from flowforge.rules.jobs.egress_secrets import HostSecret, check_secrets
from flowforge.rules.jobs.profiles import Known
from flowforge.rules.jobs.spec import JobSpec, SandboxChoice


async def known() -> Known:
    """Every sandbox profile there is.

    Raises:
        Unavailable: Prefect's API did not say.
    """
    return await asyncio.to_thread(lookup.find_profiles)


@dataclass(frozen=True)
class Entrusted:
    """The secrets that a job names, as they are saved."""

    secrets: tuple[HostSecret, ...] = ()
    why_not: Refused | None = None
    """Why they are not to be had."""

    @property
    def values(self) -> dict[str, str]:
        """What must never be seen of them, by what is shown in its place."""
        return {f"{one.name} of {one.host}": one.value.get_secret_value() for one in self.secrets}


async def entrusted(spec: JobSpec) -> Entrusted:
    """Find the secrets that a job names."""
    try:
        found = [await asyncio.to_thread(lookup.find_egress_secret, name) for name in spec.secrets]
        check_secrets(found, spec.sandbox.egress)
    except Refused as why:
        return Entrusted(why_not=why)
    return Entrusted(tuple(found))


class ByProfile:
    """Makes each sandbox as its profile says at that moment; it may have changed meanwhile.

    Args:
        entrusted: The secrets of the job.
    """

    def __init__(self, entrusted: Entrusted) -> None:
        self._entrusted = entrusted

    async def open(self, job: str, fence: int, choice: SandboxChoice) -> Sandbox:
        """Make a sandbox for one attempt of a job.

        Raises:
            Refused: There is no such profile, it gives less than is asked for, this machine
                cannot make a sandbox of its kind, or a secret is not to be had.
            Unavailable: It could not be had now.
        """
        if self._entrusted.why_not is not None:
            raise self._entrusted.why_not
        provider = profiles.choose(choice, await known())
        return await provider.open(job, fence, choice, self._entrusted.secrets)
