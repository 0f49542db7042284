"""Sandboxes on this machine without a container engine: namespaces, Landlock, limits.

Commands see a file system of their own: system folders to read, one bounded disk in memory to
write. There is no network but loopback, no process of anybody else, no privilege to gain. Where the
machine lacks a part of this there is no sandbox; nothing weaker takes its place.

Memory of all processes together is watched by the keeper, which ends them when it is too much.
Where a cgroup may be made the kernel holds the sum of memory and disk as well. Elsewhere each
process also has a bound of addresses; memory without an owner, such as files that have no name,
is bounded only by what the machine has.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from secrets import token_hex
from typing import Any

from flowforge.engines.sandboxes import cgroups, kept, launch, way_out
from flowforge.engines.sandboxes.cgroups import Cgroup
from flowforge.engines.sandboxes.inside import system, walls
from flowforge.engines.sandboxes.kept import Kept, Share
from flowforge.engines.sandboxes.proxy import PUBLIC, Route
from flowforge.engines.sandboxes.sandbox import Sandbox
from flowforge.engines.sandboxes.session import Session
from flowforge.engines.sandboxes.way_out import NO_WAY_OUT, WayOut
from flowforge.errors import FlowForgeError, Refused
from flowforge.rules.jobs.egress_secrets import HostSecret
from flowforge.rules.jobs.spec import SandboxChoice

_MEGABYTE = 1024 * 1024
_PARTS_OF_AN_INSTALLATION = 3
_ADDRESSES_PER_MEMORY = 4
"""Programs reserve more addresses than they ever use memory."""

_PROBE = SandboxChoice(memory_mb=64, disk_mb=16)


class LocalProvider:
    """Makes sandboxes of this machine's own kernel.

    Args:
        folders: More folders that commands may read and run, at the paths they have here. The
            Python that runs this is among them, if it has a folder of its own.
        route: How names of hosts become addresses that may be reached.
    """

    kind = "local"

    def __init__(
        self,
        folders: Sequence[Path] = (),
        route: Route = PUBLIC,
    ) -> None:
        own = Path(sys.base_prefix)
        is_folder_of_its_own = len(own.parts) >= _PARTS_OF_AN_INSTALLATION
        self._folders = (*folders, own) if is_folder_of_its_own else tuple(folders)
        self._route = route

    def why_not(self) -> FlowForgeError | None:
        """What this machine lacks, found out by making a sandbox."""
        try:
            _check_machine()
            launched = launch.launch(
                ("probe", "probe", 0), self._wishes(_PROBE, NO_WAY_OUT, None), None
            )
        except FlowForgeError as error:
            return error
        launched.stream.close()
        launched.end()
        return None

    async def open(
        self, job: str, fence: int, choice: SandboxChoice, secrets: Sequence[HostSecret] = ()
    ) -> Sandbox:
        """Make a sandbox; its processes and files die with this process at the latest."""
        _check_machine()
        way = way_out.make(choice, secrets, self._route)
        sandbox_id = f"local-{token_hex(8)}"
        name = (sandbox_id, job, fence)
        group = await asyncio.to_thread(_bound, sandbox_id, choice)
        wishes = self._wishes(choice, way, group)
        launched = await asyncio.to_thread(launch.launch, name, wishes, group)

        async def end() -> None:
            await asyncio.to_thread(launched.end)

        reader, writer = await asyncio.open_unix_connection(sock=launched.stream)
        share = Share(cpus=choice.cpus, disk_bytes=choice.disk_mb * _MEGABYTE)
        session = Session(reader, writer, way.answer)
        return Kept(sandbox_id, launched.workspace, session, share, way.contacts, end)

    async def list_open(self) -> list[tuple[str, int, str]]:
        """Every sandbox on this machine that runs; what dead ones left is removed."""
        found = await asyncio.to_thread(lambda: list(launch.find_running()))
        await asyncio.to_thread(cgroups.sweep, {one.sandbox_id for one in found})
        return [(one.job, one.fence, one.sandbox_id) for one in found]

    async def remove(self, sandbox_id: str) -> None:
        """End a sandbox of whichever process."""
        for one in launch.find_running():
            if one.sandbox_id == sandbox_id:
                await asyncio.to_thread(launch.end_running, one)

    def _wishes(self, choice: SandboxChoice, way: WayOut, group: Cgroup | None) -> dict[str, Any]:
        wishes = kept.wishes(choice, way, more_programs=self._programs())
        if group is None:
            wishes["address_bytes"] = wishes["memory_bytes"] * _ADDRESSES_PER_MEMORY
        wishes["account"] = launch.NOBODY if os.geteuid() == 0 else None
        wishes["folders"] = [str(folder) for folder in self._folders]
        return wishes

    def _programs(self) -> list[str]:
        return [str(folder / "bin") for folder in self._folders if (folder / "bin").is_dir()]


def _bound(sandbox_id: str, choice: SandboxChoice) -> Cgroup | None:
    """Bounds by the kernel, where that may be; the disk is memory, so it is in the sum."""
    bounds = cgroups.Bounds(
        memory_bytes=(choice.memory_mb + choice.disk_mb + kept.KEEPER_MB) * _MEGABYTE,
        processes=kept.PROCESSES + kept.OWN_PROCESSES,
        cpus=choice.cpus,
    )
    return cgroups.make(sandbox_id, bounds)


def why_not() -> FlowForgeError | None:
    """What this machine lacks for sandboxes of its own, with the way out."""
    return LocalProvider().why_not()


def _check_machine() -> None:
    """Say early what can be said without trying."""
    if sys.platform != "linux" or system.machine() is None:
        raise Refused(
            "Local sandboxes need Linux on x86-64 or arm64.",
            hint="Use docker or Kubernetes sandboxes here.",
        )
    if walls.landlock_version() == 0:
        raise Refused(
            "This kernel has no Landlock.",
            hint="Start Linux 5.13 or newer with `landlock` in its `lsm=` list, or use docker or "
            "Kubernetes sandboxes.",
        )
