"""The brain's end of the stream to a keeper: runs side by side, each with its own input and output.

Nothing here believes the other end: a frame that makes no sense closes the stream.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, NoReturn, Protocol

from flowforge.engines.sandboxes.inside import frames
from flowforge.engines.sandboxes.links import Answer, Links
from flowforge.engines.sandboxes.sandbox import SandboxLost
from flowforge.errors import Refused, Unavailable

_STEPS_OF_WALLS = ("landlock", "filter", "openat2", "privileges")
_NO_WALLS = "Start Linux 5.13 or newer with `landlock` in its `lsm=` list and seccomp filters."
_NO_NAMESPACES = (
    "Allow them: `sysctl -w user.max_user_namespaces=10000`, on Debian also "
    "`kernel.unprivileged_userns_clone=1`, on Ubuntu `kernel.apparmor_restrict_unprivileged_userns"
    "=0`. In a container that forbids them, run jobs in docker or Kubernetes sandboxes."
)
_LOST_HINT = "Start a new attempt of the job; its journal says what was done."


@dataclass(frozen=True)
class Ended:
    """What the keeper said of a run that is over."""

    status: int
    seconds: float
    timed_out: bool
    out_of_memory: bool


@dataclass
class _Run:
    on_output: Callable[[bytes], None]
    over: asyncio.Future[Ended]
    under_way: int = 0
    taken: asyncio.Event = field(default_factory=asyncio.Event)


class Reader(Protocol):
    """Where frames come from."""

    async def read(self, size: int, /) -> bytes:
        """Some bytes, or none at the end."""
        ...


class Writer(Protocol):
    """Where frames go."""

    def write(self, data: bytes, /) -> None:
        """Take bytes to be sent."""
        ...

    async def drain(self) -> None:
        """Wait until more may be taken."""
        ...

    def close(self) -> None:
        """Send no more."""
        ...

    async def wait_closed(self) -> None:
        """Wait until it is closed."""
        ...


async def meet(reader: Reader, *, seconds: float) -> str:
    """Wait for the first word of a keeper that is not on this machine's own socket.

    Returns:
        The workspace as commands see it.

    Raises:
        Refused: The place lacks something.
        Unavailable: Nothing is heard in time.
    """
    buffer = bytearray()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while data := await reader.read(frames.CHUNK):
                buffer += data
                for kind, _, payload in frames.unpack(buffer):
                    return read_first(kind, frames.read_values(payload))
    raise Unavailable(
        "The keeper of a new sandbox does not say a word.",
        hint="Look whether its image has Python 3.9 or newer as `python3`; then try again.",
    )


def read_first(kind: bytes, values: dict[str, Any]) -> str:
    """What the first word of a keeper says: its workspace, or what the place lacks."""
    if kind == frames.READY:
        return str(values["workspace"])
    step, text = str(values["step"]), str(values["text"])
    is_wall = any(word in step for word in _STEPS_OF_WALLS)
    raise Refused(
        f"This place cannot be a sandbox: {step}: {text}.",
        hint=_NO_WALLS if is_wall else _NO_NAMESPACES,
    )


class Session:
    """One stream to one keeper.

    Args:
        reader: Where its frames come from.
        writer: Where frames for it go.
        answer: Serves a connection of a command to the proxy's port, where there is one.
    """

    def __init__(self, reader: Reader, writer: Writer, answer: Answer | None = None) -> None:
        self._reader = reader
        self._writer = writer
        self._links = Links(self._send, answer)
        self._runs: dict[int, _Run] = {}
        self._answers: dict[bytes, list[asyncio.Future[None]]] = {
            frames.KILLED: [],
            frames.PONG: [],
        }
        self._last_run = 0
        self._why_lost: str | None = None
        self._listening = asyncio.create_task(self._listen())

    @property
    def why_lost(self) -> str | None:
        """Why nothing can be asked any more; `None` while it can."""
        return self._why_lost

    async def run(
        self,
        request: dict[str, Any],
        input: Iterable[bytes],
        on_output: Callable[[bytes], None],
        *,
        patience_seconds: float,
    ) -> Ended:
        """Have something run, feed it, and wait for its end.

        Args:
            request: What `spawn.become` understands; `seconds` is when the keeper ends it.
            input: Chunks of its standard input, none larger than `frames.CHUNK`.
            on_output: Gets its output as it comes.
            patience_seconds: How long after its time the keeper may take to say so.

        Raises:
            SandboxLost: The keeper has gone, or does not say a word.
            OSError: What takes the output could not.
        """
        self._check()
        self._last_run += 1
        number, run = self._last_run, _Run(on_output, asyncio.get_running_loop().create_future())
        self._runs[number] = run
        feeding = asyncio.create_task(self._feed(number, run, request, input))
        try:
            async with asyncio.timeout(float(request["seconds"]) + patience_seconds):
                return await run.over
        except TimeoutError:
            self._lose("its keeper does not answer")
            self._raise_lost()
        finally:
            feeding.cancel()
            with contextlib.suppress(asyncio.CancelledError, ConnectionError):
                await feeding
            if run.over.done():
                run.over.cancelled() or run.over.exception()
            self._runs.pop(number, None)

    async def kill_all(self, *, patience_seconds: float) -> None:
        """Have every process ended.

        Raises:
            SandboxLost: The keeper has gone, or does not say a word.
        """
        await self._ask(frames.KILL, frames.KILLED, patience_seconds)

    async def ping(self, *, patience_seconds: float) -> None:
        """Have an answer.

        Raises:
            SandboxLost: The keeper has gone, or does not say a word.
        """
        await self._ask(frames.PING, frames.PONG, patience_seconds)

    async def close(self) -> None:
        """Close the stream, which ends the keeper."""
        await self._links.close()
        self._lose("it was closed")
        self._listening.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._listening
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()

    async def _feed(
        self, number: int, run: _Run, request: dict[str, Any], input: Iterable[bytes]
    ) -> None:
        self._writer.write(frames.pack_values(frames.START, number, request))
        for data in input:
            while run.under_way + len(data) > frames.WINDOW:
                run.taken.clear()
                await run.taken.wait()
            run.under_way += len(data)
            await self._send(frames.pack(frames.INPUT, number, data))
        await self._send(frames.pack(frames.INPUT_END, number))

    async def _send(self, frame: bytes) -> None:
        self._writer.write(frame)
        await self._writer.drain()

    async def _ask(self, question: bytes, answer: bytes, patience_seconds: float) -> None:
        self._check()
        answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._answers[answer].append(answered)
        self._writer.write(frames.pack(question))
        try:
            async with asyncio.timeout(patience_seconds):
                await self._writer.drain()
                await answered
        except TimeoutError:
            self._lose("its keeper does not answer")
            self._raise_lost()

    async def _listen(self) -> None:
        buffer = bytearray()
        try:
            while data := await self._reader.read(frames.WINDOW):
                buffer += data
                for kind, number, payload in frames.unpack(buffer):
                    self._take(kind, number, payload)
            self._lose("its keeper has ended")
        except (ConnectionError, frames.Broken, KeyError, TypeError, ValueError) as error:
            self._lose(f"its keeper is not understood ({type(error).__name__})")

    def _take(self, kind: bytes, number: int, payload: bytes) -> None:
        if kind in frames.OF_LINKS:
            self._links.take(kind, number, payload)
            return
        run = self._runs.get(number)
        if kind in self._answers:
            for answered in self._answers[kind][:1]:
                self._answers[kind].remove(answered)
                if not answered.done():
                    answered.set_result(None)
        elif run is None or run.over.done():
            return  # its caller has gone
        elif kind == frames.OUTPUT:
            try:
                run.on_output(payload)
            except OSError as error:
                run.over.set_exception(error)
        elif kind == frames.TAKEN:
            run.under_way -= int.from_bytes(payload, "big")
            run.taken.set()
        elif kind == frames.END:
            values = frames.read_values(payload)
            ended = Ended(
                status=int(values["status"]),
                seconds=float(values["seconds"]),
                timed_out=bool(values["timed_out"]),
                out_of_memory=bool(values["out_of_memory"]),
            )
            run.over.set_result(ended)

    def _lose(self, why: str) -> None:
        self._why_lost = self._why_lost or why
        self._writer.close()
        waiting: list[asyncio.Future[Any]] = [
            answer for answers in self._answers.values() for answer in answers
        ]
        over: list[asyncio.Future[Any]] = [run.over for run in self._runs.values()]
        for future in over + waiting:
            if not future.done():
                future.set_exception(self._lost())

    def _check(self) -> None:
        if self._why_lost:
            self._raise_lost()

    def _lost(self) -> SandboxLost:
        return SandboxLost(f"The sandbox is lost: {self._why_lost}.", hint=_LOST_HINT)

    def _raise_lost(self) -> NoReturn:
        raise self._lost()
