"""A sandbox that has a keeper inside: the same for every kind of place."""

from __future__ import annotations

import asyncio
import contextlib
import io
import math
import tempfile
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from flowforge.engines.sandboxes.captured import Captured
from flowforge.engines.sandboxes.contacts import Contact, Contacts
from flowforge.engines.sandboxes.inside import frames, packing, trees
from flowforge.engines.sandboxes.mirror import Mirror
from flowforge.engines.sandboxes.sandbox import FileRefused, Health, Ran, SandboxLost
from flowforge.engines.sandboxes.session import Ended, Session
from flowforge.engines.sandboxes.way_out import NO_WAY_OUT, WayOut
from flowforge.rules.jobs.spec import SandboxChoice

MOST_FILES = 500_000
PROCESSES = 512
"""The most a sandbox may have at once."""

OWN_PROCESSES = 16
KEEPER_MB = 32
_MEGABYTE = 1024 * 1024
_FILES_PER_MEGABYTE = 64
_FEWEST_FILES = 10_000
_BYTES_OF_NAMES = 512
_REASON_BYTES = 4096
_FILE_SECONDS = 60
_TREE_SECONDS = 600
_PATIENCE_SECONDS = 15
_HEALTH_SECONDS = 5


_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_VARIABLES = {
    "HOME": "/tmp",
    "TMPDIR": "/tmp",
    "USER": "agent",
    "LOGNAME": "agent",
    "LANG": "C.UTF-8",
    "TERM": "dumb",
    "GIT_CONFIG_NOSYSTEM": "1",
}


def wishes(
    choice: SandboxChoice, way_out: WayOut = NO_WAY_OUT, more_programs: Sequence[str] = ()
) -> dict[str, Any]:
    """What the program inside is told of a sandbox, wherever it is.

    Args:
        choice: What the job asks for.
        way_out: To the hosts it names.
        more_programs: Folders of programs beside the usual ones.
    """
    variables = _VARIABLES | {"PATH": ":".join([_PATH, *more_programs])}
    files = max(choice.disk_mb * _FILES_PER_MEGABYTE, _FEWEST_FILES)
    return {
        "disk_bytes": choice.disk_mb * _MEGABYTE,
        "files": min(files, MOST_FILES),
        "has_egress": way_out.answer is not None,
        "certificate": way_out.certificate,
        "usual_certificates": way_out.usual_certificates,
        "processes": PROCESSES,
        "memory_bytes": choice.memory_mb * _MEGABYTE,
        "address_bytes": None,
        "environment": {**variables, **way_out.variables},
    }


@dataclass(frozen=True)
class Share:
    """What of a machine a sandbox has."""

    cpus: float
    disk_bytes: int


class Kept:
    """One sandbox, spoken to by its keeper.

    Args:
        sandbox_id: By which its provider finds it again.
        workspace: The job's folder as commands see it.
        session: The stream to the keeper.
        share: What it has.
        contacts: Where its connections to hosts are noted.
        end: Removes the place when the stream is closed.
    """

    def __init__(
        self,
        sandbox_id: str,
        workspace: str,
        session: Session,
        share: Share,
        contacts: Contacts,
        end: Callable[[], Awaitable[None]],
    ) -> None:
        self.id = sandbox_id
        self.workspace = workspace
        self._session = session
        self._share = share
        self._contacts = contacts
        self._end = end
        self._one_command = asyncio.Lock()
        self._mirrors: dict[Path, Mirror] = {}
        self._is_closed = False

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
        """Run a command; one after the other, as a timeout ends all there is."""
        captured = Captured(spool)
        request = {"do": "run", "argv": list(argv), "cwd": cwd, "env": dict(env or {})}
        async with self._one_command:
            try:
                ended = await self._run(request, _cut(input), captured.add, timeout_seconds)
            except (asyncio.CancelledError, OSError):
                with contextlib.suppress(SandboxLost):
                    await asyncio.shield(self.kill_all())
                raise
        return Ran(
            status=ended.status,
            head=captured.head,
            tail=captured.tail,
            output_bytes=captured.size,
            seconds=ended.seconds,
            timed_out=ended.timed_out,
            out_of_memory=ended.out_of_memory,
        )

    async def read_file(self, path: str, *, max_bytes: int) -> bytes:
        """Read a file of the workspace."""
        content = bytearray()
        request = {"do": "read", "path": path, "max_bytes": max_bytes}
        take = _filling(content, max_bytes + _REASON_BYTES)
        ended = await self._run(request, (), take, _FILE_SECONDS)
        _check(ended, content, f"{path!r} cannot be read")
        return bytes(content)

    async def write_file(self, path: str, content: bytes) -> None:
        """Write a file of the workspace."""
        said = bytearray()
        request = {"do": "write", "path": path}
        take = _filling(said, _REASON_BYTES)
        ended = await self._run(request, _cut(content), take, _FILE_SECONDS)
        _check(ended, said, f"{path!r} cannot be written")

    async def pull(self, folder: Path) -> None:
        """Make a folder of the brain equal to the workspace, once all of it has come."""
        mirror = self._mirrors.setdefault(folder, Mirror(folder))
        marks = await asyncio.to_thread(mirror.marks)
        request = {"do": "pack", "most_bytes": self._share.disk_bytes}
        most = self._share.disk_bytes + MOST_FILES * _BYTES_OF_NAMES
        with tempfile.TemporaryFile() as stream:
            size = 0

            def take(data: bytes) -> None:
                nonlocal size
                size += len(data)
                if size <= most:
                    stream.write(data)

            ended = await self._run(request, _cut(trees.pack_marks(marks)), take, _TREE_SECONDS)
            _check(ended, b"", "The workspace cannot be read")
            stream.seek(0)
            try:
                await asyncio.to_thread(mirror.take, stream, **self._bounds)
            except trees.BadTree as error:
                raise _refused("The workspace cannot be read", str(error)) from error

    async def push(self, folder: Path) -> None:
        """Make the workspace equal to a folder of the brain."""
        mirror = self._mirrors.setdefault(folder, Mirror(folder))
        request = {"do": "unpack", **self._bounds}
        said = bytearray()
        with tempfile.TemporaryFile() as stream:
            await asyncio.to_thread(stream.writelines, packing.pack(folder, known={}))
            stream.seek(0)
            chunks = iter(lambda: stream.read(frames.CHUNK), b"")
            take = _filling(said, MOST_FILES * _BYTES_OF_NAMES)
            ended = await self._run(request, chunks, take, _TREE_SECONDS)
        _check(ended, said, "The workspace cannot be written")
        await asyncio.to_thread(mirror.gave, io.BytesIO(said))

    @property
    def _bounds(self) -> dict[str, int]:
        return {"most_bytes": self._share.disk_bytes, "most_entries": MOST_FILES}

    async def kill_all(self) -> None:
        """End every process in it but the keeper."""
        await self._session.kill_all(patience_seconds=_PATIENCE_SECONDS)

    async def health(self) -> Health:
        """Whether its keeper answers."""
        try:
            await self._session.ping(patience_seconds=_HEALTH_SECONDS)
        except SandboxLost as lost:
            return lost.message
        return "ok"

    def contacts(self) -> list[Contact]:
        """Which hosts its commands asked for since this was asked last."""
        return self._contacts.take()

    async def close(self) -> None:
        """End it, with all its processes and files."""
        if not self._is_closed:
            self._is_closed = True
            await self._session.close()
            await self._end()

    async def _run(
        self,
        request: dict[str, Any],
        input: Iterable[bytes],
        on_output: Callable[[bytes], None],
        seconds: float,
    ) -> Ended:
        request["seconds"] = seconds
        request["cpu_seconds"] = math.ceil(seconds * self._share.cpus) + 1
        return await self._session.run(
            request, input, on_output, patience_seconds=_PATIENCE_SECONDS
        )


def _cut(data: bytes) -> Iterator[bytes]:
    for start in range(0, len(data), frames.CHUNK):
        yield data[start : start + frames.CHUNK]


def _filling(buffer: bytearray, most: int) -> Callable[[bytes], None]:
    """What fills a buffer with no more than an honest program inside can send."""

    def take(data: bytes) -> None:
        if len(buffer) + len(data) > most:
            raise frames.Broken("more came than was asked for")
        buffer.extend(data)

    return take


def _check(ended: Ended, said: bytes | bytearray, what: str) -> None:
    """Raise for a file operation that did not do what it should."""
    if ended.status == 0:
        return
    if ended.status == frames.REFUSED:
        raise _refused(what, said[:500].decode(errors="replace"))
    raise _refused(what, "it took too long" if ended.timed_out else "it was interrupted")


def _refused(what: str, why: str) -> FileRefused:
    return FileRefused(f"{what}: {why}.", hint="Look at the path, its mode and the room left.")
