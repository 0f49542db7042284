"""The one way out of a sandbox: HTTPS to hosts its job names, by a proxy in the brain's process.

It answers `CONNECT` and nothing else. It looks names up itself and connects to the very address it
looked at, so a name that points into a private network, or changes where it points, leads nowhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from flowforge.engines.sandboxes.inside.prepare import PROXY_PORT
from flowforge.rules.jobs import egress

_HEAD_BYTES = 8 * 1024
_CHUNK = 64 * 1024
_HEAD_SECONDS = 10
_CONNECT_SECONDS = 15

Resolve = Callable[[str, int], Awaitable[list[str]]]


_logger = logging.getLogger(__name__)
_ADDRESS = f"http://127.0.0.1:{PROXY_PORT}"
_NOT_BY_PROXY = "localhost,127.0.0.1,::1"
PROXY_VARIABLES = {
    "HTTPS_PROXY": _ADDRESS,
    "https_proxy": _ADDRESS,
    "NO_PROXY": _NOT_BY_PROXY,
    "no_proxy": _NOT_BY_PROXY,
}
"""By which the usual programs find the proxy."""


@dataclass(frozen=True)
class Bounds:
    """How much may go through one proxy."""

    connections: int = 32
    seconds: float = 900
    """Of one connection."""

    bytes: int = 2 * 1024**3
    """Of all connections, both ways together."""


@dataclass(frozen=True)
class Attempt:
    """One connection that was asked for, told when it is over."""

    host: str
    port: int
    refusal: str | None
    """Why it was not made or not finished; `None` for one that was."""

    sent_bytes: int
    received_bytes: int
    seconds: float


@dataclass
class _Traffic:
    host: str = ""
    port: int = 0
    sent: int = 0
    received: int = 0
    is_open: bool = False
    refusal: str | None = None
    started: float = field(default_factory=time.monotonic)


class _Refusal(Exception):
    def __init__(self, status: str, why: str) -> None:
        super().__init__(why)
        self.status = status


async def look_up(name: str, port: int) -> list[str]:
    """The addresses a name has."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(name, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


@dataclass(frozen=True)
class Route:
    """How a name becomes an address."""

    resolve: Resolve = look_up
    may_reach: Callable[[str], bool] = egress.is_public
    """Whether an address may be connected to."""


PUBLIC = Route()
_BOUNDS = Bounds()


def note(job: str, attempt: Attempt) -> None:
    """Write down a connection that a job asked for."""
    outcome = attempt.refusal or f"{attempt.sent_bytes} out, {attempt.received_bytes} in"
    _logger.info("Job %s, %s:%d: %s", job, attempt.host, attempt.port, outcome)


class Proxy:
    """Serves one sandbox.

    Args:
        hosts: Which it may reach.
        report: Told of each connection when it is over, also of those refused.
        route: How their names become addresses.
        bounds: How much may go through.
    """

    def __init__(
        self,
        hosts: Sequence[str],
        report: Callable[[Attempt], None],
        route: Route = PUBLIC,
        bounds: Bounds = _BOUNDS,
    ) -> None:
        self._hosts = hosts
        self._report = report
        self._bounds = bounds
        self._route = route
        self._passed = 0
        self._connections: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def serve(self, listener: socket.socket) -> None:
        """Answer whoever connects to a socket, until closed."""
        self._server = await asyncio.start_server(self._accept, sock=listener, limit=_HEAD_BYTES)

    async def close(self) -> None:
        """End every connection and take no more."""
        if self._server:
            self._server.close()
        for connection in list(self._connections):
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = asyncio.current_task()
        assert connection
        self._connections.add(connection)
        traffic = _Traffic()
        try:
            async with asyncio.timeout(self._bounds.seconds):
                await self._answer(reader, writer, traffic)
        except _Refusal as refusal:
            traffic.refusal = str(refusal)
            if not traffic.is_open:
                with contextlib.suppress(ConnectionError):
                    writer.write(f"HTTP/1.1 {refusal.status}\r\n\r\n{refusal}\n".encode())
                    await writer.drain()
        except TimeoutError:
            traffic.refusal = "it took too long"
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            traffic.refusal = f"the connection broke ({type(error).__name__})"
        finally:
            self._connections.discard(connection)
            writer.close()
            self._report(_told(traffic))

    async def _answer(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, traffic: _Traffic
    ) -> None:
        if len(self._connections) > self._bounds.connections:
            raise _Refusal("503 Busy", "too many connections at once")
        async with asyncio.timeout(_HEAD_SECONDS):
            head = await reader.readuntil(b"\r\n\r\n")
        traffic.host, traffic.port = _read_head(head)
        there, to_there = await self._connect(traffic.host, traffic.port)
        try:
            writer.write(b"HTTP/1.1 200 Connected\r\n\r\n")
            traffic.is_open = True
            async with asyncio.TaskGroup() as both_ways:
                both_ways.create_task(self._carry(reader, to_there, traffic, is_out=True))
                both_ways.create_task(self._carry(there, writer, traffic, is_out=False))
        except ExceptionGroup as group:
            raise group.exceptions[0] from group
        finally:
            to_there.close()

    async def _connect(
        self, host: str, port: int
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if not egress.is_allowed(self._hosts, host, port):
            raise _Refusal("403 Forbidden", f"{host}:{port} is not among the hosts of this job")
        try:
            addresses = await self._route.resolve(host, port)
        except OSError as error:
            raise _Refusal("502 Bad Gateway", f"{host} has no address") from error
        if not addresses or not all(map(self._route.may_reach, addresses)):
            raise _Refusal("403 Forbidden", f"{host} is an address of a private network")
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                return await asyncio.open_connection(addresses[0], port)
        except (OSError, TimeoutError) as error:
            raise _Refusal("502 Bad Gateway", f"{host} does not answer") from error

    async def _carry(
        self,
        source: asyncio.StreamReader,
        target: asyncio.StreamWriter,
        traffic: _Traffic,
        *,
        is_out: bool,
    ) -> None:
        while data := await source.read(_CHUNK):
            self._passed += len(data)
            if self._passed > self._bounds.bytes:
                raise _Refusal("509 Too Much", "the job has used up what it may transfer")
            if is_out:
                traffic.sent += len(data)
            else:
                traffic.received += len(data)
            target.write(data)
            await target.drain()
        with contextlib.suppress(OSError):
            target.write_eof()


def _read_head(head: bytes) -> tuple[str, int]:
    method, _, rest = head.split(b"\r\n", 1)[0].decode("ascii", "replace").partition(" ")
    if method != "CONNECT":
        raise _Refusal("405 Method Not Allowed", "only HTTPS leaves this sandbox")
    host, _, port = rest.partition(" ")[0].rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65_535:
        raise _Refusal("400 Bad Request", "the host or the port cannot be read")
    return host.lower(), int(port)


def _told(traffic: _Traffic) -> Attempt:
    return Attempt(
        host=traffic.host,
        port=traffic.port,
        refusal=traffic.refusal,
        sent_bytes=traffic.sent,
        received_bytes=traffic.received,
        seconds=time.monotonic() - traffic.started,
    )
