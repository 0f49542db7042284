"""From a sandbox profile to what makes its sandboxes."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from flowforge.engines.sandboxes.local import LocalProvider
from flowforge.engines.sandboxes.sandbox import Provider
from flowforge.errors import FlowForgeError, Refused
from flowforge.rules.jobs import profiles
from flowforge.rules.jobs.profiles import Known, Profile
from flowforge.rules.jobs.spec import SandboxChoice

_TRIAL_SECONDS = 30
_TRIAL_MEMORY_MB, _TRIAL_DISK_MB = 256, 64
_SAYS_WHAT_IT_IS = ("uname", "-srm")


@dataclass(frozen=True)
class Tried:
    """What a sandbox that was made for a trial did."""

    open_seconds: float
    command_seconds: float
    close_seconds: float
    says: str
    """What its kernel is called."""


def provider_of(profile: Profile) -> Provider:
    """What makes the sandboxes of a profile."""
    if profile.kind == "docker":
        from flowforge.engines.sandboxes import docker  # its client is large

        return docker.DockerProvider(profile.address, profile.image or docker.IMAGE)
    if profile.kind == "kubernetes":
        from flowforge.engines.sandboxes import kubernetes  # its client is larger

        placement = kubernetes.Placement(
            namespace=profile.namespace or kubernetes.NAMESPACE,
            runtime_class=profile.runtime_class,
            node_selector=tuple(profile.node_selector.items()),
            tolerated_taint=profile.tolerated_taint,
        )
        return kubernetes.KubernetesProvider(profile.image or kubernetes.IMAGE, placement)
    return LocalProvider()


def choose(choice: SandboxChoice, known: Known) -> Provider:
    """What makes the sandbox that a job asks for.

    Raises:
        Refused: There is no such profile, or it gives less than is asked for.
    """
    check(choice, known)
    profile = known[choice.profile]
    assert isinstance(profile, Profile)
    return provider_of(profile)


def check(choice: SandboxChoice, known: Known) -> None:
    """Make sure that a job's profile gives what the job asks for.

    Raises:
        Refused: It does not; the fields are named.
    """
    if problems := profiles.find_problems(choice, known):
        said = " ".join(f"{one.field}: {one.message}" for one in problems)
        raise Refused(
            f"The job gets no sandbox: {said}",
            hint="Ask for less, or for another profile; `flowforge sandbox list` shows them.",
        )


async def why_not(provider: Provider) -> FlowForgeError | None:
    """What is in the way of sandboxes from this machine; `None` when nothing is."""
    if (why := await asyncio.to_thread(provider.why_not)) is not None:
        return why
    try:
        await provider.list_open()
    except FlowForgeError as error:
        return error
    return None


async def try_out(profile: Profile) -> Tried:
    """Make a small sandbox, run a command in it, end it.

    Raises:
        Refused: It cannot be had here, or has not what commands need.
        Unavailable: It cannot be had now.
    """
    choice = SandboxChoice(
        profile=profile.name,
        cpus=min(1.0, profile.cpus),
        memory_mb=min(_TRIAL_MEMORY_MB, profile.memory_mb),
        disk_mb=min(_TRIAL_DISK_MB, profile.disk_mb),
    )
    began = time.monotonic()
    sandbox = await provider_of(profile).open("trial", 0, choice)
    opened = time.monotonic()
    try:
        ran = await sandbox.exec(_SAYS_WHAT_IT_IS, timeout_seconds=_TRIAL_SECONDS)
    finally:
        ended = time.monotonic()
        await asyncio.shield(sandbox.close())
    says = ran.head.decode(errors="replace").strip()
    if ran.status != 0:
        raise Refused(
            f"A command in a sandbox of {profile.name} exited with {ran.status}: {says[:200]}",
            hint="Use an image with `sh`, the usual tools and Python 3.9 or newer.",
        )
    return Tried(opened - began, ran.seconds, time.monotonic() - ended, says)
