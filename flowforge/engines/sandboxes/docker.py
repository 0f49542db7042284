"""Sandboxes in containers of a docker engine: no network, no capability, a file system to read.

The brain is attached to the container's first process and to nothing else: no port, no shared
folder. When the brain lets go, however it ends, that process ends, and the engine removes the
container.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from secrets import randbelow, token_hex
from typing import Any

from flowforge.engines.sandboxes import kept, program, way_out
from flowforge.engines.sandboxes.engine import Engine, Output
from flowforge.engines.sandboxes.inside import frames
from flowforge.engines.sandboxes.kept import Kept, Share
from flowforge.engines.sandboxes.proxy import PUBLIC, Route
from flowforge.engines.sandboxes.sandbox import Sandbox
from flowforge.engines.sandboxes.session import Session, meet
from flowforge.errors import FlowForgeError
from flowforge.rules.jobs.egress_secrets import HostSecret
from flowforge.rules.jobs.spec import SandboxChoice

IMAGE = "python:3.11-slim"
_LABEL = "flowforge.sandbox"
_JOB, _FENCE = f"{_LABEL}.job", f"{_LABEL}.fence"
_MEGABYTE = 1024 * 1024
_SHARE_OF_TEMPORARY = 4
_START_SECONDS = 30
_FIRST_ACCOUNT, _ACCOUNTS = 20_000, 40_000
"""Each sandbox has an account of its own, as the kernel counts processes by account."""


class DockerProvider:
    """Makes sandboxes of a docker engine.

    Args:
        address: Of the engine; that of the environment when `None`.
        image: What commands find; it needs Python 3.9 or newer.
        route: How names of hosts become addresses that may be reached.
    """

    kind = "docker"

    def __init__(
        self,
        address: str | None = None,
        image: str = IMAGE,
        route: Route = PUBLIC,
    ) -> None:
        self._engine = Engine(address)
        self.image = image
        self._route = route

    def why_not(self) -> FlowForgeError | None:
        """Whether the engine answers."""
        try:
            self._engine.check()
        except FlowForgeError as error:
            return error
        return None

    async def open(
        self, job: str, fence: int, choice: SandboxChoice, secrets: Sequence[HostSecret] = ()
    ) -> Sandbox:
        """Start a container and meet its keeper."""
        way = way_out.make(choice, secrets, self._route)
        name = f"flowforge-sandbox-{token_hex(8)}"
        settings = _settings(name, choice) | {"labels": _labels(job, fence)}
        async with AsyncExitStack() as undo:
            image = choice.image or self.image
            undo.push_async_callback(asyncio.to_thread, self._engine.remove, name)
            connection = await asyncio.to_thread(self._engine.start, image, settings)
            reader, writer = await asyncio.open_unix_connection(sock=connection)
            wishes = kept.wishes(choice, way)
            writer.write(program.pack() + frames.pack_values(frames.START, 0, wishes))
            output = Output(reader)
            workspace = await meet(output, seconds=_START_SECONDS)
            ending = undo.pop_all()
        share = Share(cpus=choice.cpus, disk_bytes=choice.disk_mb * _MEGABYTE)
        session = Session(output, writer, way.answer)
        return Kept(name, workspace, session, share, way.contacts, ending.aclose)

    async def list_open(self) -> list[tuple[str, int, str]]:
        """Every sandbox of the engine, also of other processes and machines that use it."""
        found = await asyncio.to_thread(self._engine.find, _LABEL)
        return [(labels[_JOB], int(labels[_FENCE]), name) for name, labels in found]

    async def remove(self, sandbox_id: str) -> None:
        """End a sandbox of whichever process."""
        await asyncio.to_thread(self._engine.remove, sandbox_id)


def _labels(job: str, fence: int) -> dict[str, str]:
    return {_LABEL: "", _JOB: job, _FENCE: str(fence)}


def _settings(name: str, choice: SandboxChoice) -> dict[str, Any]:
    """What the engine shall hold for a sandbox; the disks are memory, so they are in the sum."""
    account = _FIRST_ACCOUNT + randbelow(_ACCOUNTS)
    owner = f"uid={account},gid={account}"
    temporary = max(choice.disk_mb // _SHARE_OF_TEMPORARY, 16)
    memory = (choice.memory_mb + choice.disk_mb + 2 * temporary + kept.KEEPER_MB) * _MEGABYTE
    files = kept.wishes(choice)["files"]
    disk = f"rw,exec,nosuid,nodev,nr_inodes={files}"
    return {
        "name": name,
        "hostname": "sandbox",
        "command": list(program.COMMAND),
        "entrypoint": [],
        "user": f"{account}:{account}",
        "working_dir": "/workspace",
        "stdin_open": True,
        "network_mode": "none",
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges"],
        "read_only": True,
        "auto_remove": True,
        "ipc_mode": "private",
        "shm_size": temporary * _MEGABYTE,
        "mem_limit": memory,
        "memswap_limit": memory,
        "nano_cpus": int(choice.cpus * 1_000_000_000),
        "pids_limit": kept.PROCESSES + kept.OWN_PROCESSES,
        "tmpfs": {
            "/workspace": f"{disk},size={choice.disk_mb}m,mode=755,{owner}",
            "/tmp": f"{disk},size={temporary}m,mode=700,{owner}",
        },
    }
