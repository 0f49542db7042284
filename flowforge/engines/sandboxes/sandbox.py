"""What every sandbox can do.

A command's failure is a value; only a broken sandbox is an exception, and never shown to the model
as if a command had said it. Arguments are always a list; who wants a shell says `bash -c` itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal, Protocol

from flowforge.engines.sandboxes.contacts import Contact
from flowforge.errors import FlowForgeError, Refused, Unavailable
from flowforge.rules.jobs.egress_secrets import HostSecret
from flowforge.rules.jobs.spec import SandboxChoice

HEAD_BYTES = 64 * 1024
TAIL_BYTES = 64 * 1024
SPOOL_BYTES = 64 * 1024 * 1024
"""The most of one command's output that is kept for people to read."""


class SandboxLost(Unavailable):
    """The sandbox is gone or broken; what its commands did may have taken effect."""


class FileRefused(Refused):
    """A file could not be read or written: not there, a folder, no right, too large, outside."""


@dataclass(frozen=True)
class Ran:
    """How a command ended. Output is standard output and error in the order they came."""

    status: int
    """What it exited with; 128 plus the signal that ended it."""

    head: bytes
    """The first `HEAD_BYTES` of its output."""

    tail: bytes
    """The last `TAIL_BYTES` of what came after the head."""

    output_bytes: int
    """All of it, also what lies between head and tail."""

    seconds: float
    timed_out: bool = False
    out_of_memory: bool = False


Health = Literal["ok"] | str
"""`ok`, or why it is dead."""


class Sandbox(Protocol):
    """One place of one job. Every method raises `SandboxLost` when the place is gone."""

    id: str
    """By which the provider finds it again, also in another process."""

    workspace: str
    """The folder the job works in, as its commands see it."""

    async def exec(
        self,
        argv: Sequence[str],
        *,
        timeout_seconds: float,
        input: bytes = b"",
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        spool: BinaryIO | None = None,
    ) -> Ran:
        """Run a command until it has ended, or the time is up.

        What it leaves in the background keeps running, as in a shell, until `kill_all`, the next
        command that takes too long, or too many such processes. Cancelling the caller kills the
        command and all there is.

        Args:
            argv: The program and its arguments.
            timeout_seconds: Then it is killed with all it started, also what left its session.
            input: Its standard input.
            cwd: A folder, relative to the workspace.
            env: Added to the few variables every command has.
            spool: Where all of the output goes, up to `SPOOL_BYTES`.
        """
        ...

    async def read_file(self, path: str, *, max_bytes: int) -> bytes:
        """Read a file of the workspace.

        Raises:
            FileRefused: It is not there, not a file, too large, or not in the workspace.
        """
        ...

    async def write_file(self, path: str, content: bytes) -> None:
        """Write a file of the workspace and the folders it needs; its mode is kept.

        Raises:
            FileRefused: It lies outside, is a folder, or there is no room.
        """
        ...

    async def pull(self, folder: Path) -> None:
        """Make a folder of the brain equal to the workspace, without Git's own files in it.

        Only file contents, modes, and symbolic links as such cross; nothing is followed or run.
        """
        ...

    async def push(self, folder: Path) -> None:
        """Make the workspace equal to a folder of the brain, without Git's own files in it."""
        ...

    async def kill_all(self) -> None:
        """End every process of the job in it; afterwards it takes commands again."""
        ...

    async def health(self) -> Health:
        """Whether it takes commands."""
        ...

    def contacts(self) -> list[Contact]:
        """Which hosts its commands asked for since this was asked last."""
        ...

    async def close(self) -> None:
        """End and remove it with all its files. Closing twice is fine."""
        ...


class Opener(Protocol):
    """Gives the attempts of jobs their sandboxes."""

    async def open(self, job: str, fence: int, choice: SandboxChoice) -> Sandbox:
        """Make a sandbox for one attempt of a job.

        Raises:
            Refused: This machine cannot give it; nothing weaker is used instead.
            Unavailable: It could not be had now.
        """
        ...


class Provider(Opener, Protocol):
    """Makes sandboxes of one kind and finds those of dead workers."""

    kind: str

    async def open(
        self, job: str, fence: int, choice: SandboxChoice, secrets: Sequence[HostSecret] = ()
    ) -> Sandbox:
        """Make a sandbox whose commands reach hosts that are told secrets.

        Args:
            job: Its id.
            fence: Of the attempt.
            choice: What the job asks for.
            secrets: What is added to requests on their way; nothing inside ever sees it.
        """
        ...

    def why_not(self) -> FlowForgeError | None:
        """What this machine lacks for it, with the way out; `None` when it works."""
        ...

    async def list_open(self) -> list[tuple[str, int, str]]:
        """Every sandbox there is: job, fence of the attempt that made it, and its id."""
        ...

    async def remove(self, sandbox_id: str) -> None:
        """End and remove a sandbox whoever made it. One that is gone already is fine."""
        ...
