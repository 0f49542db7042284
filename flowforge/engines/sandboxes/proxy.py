"""The one way out of a sandbox: HTTPS to hosts its job names, by a proxy in the brain's process.

It answers `CONNECT` and nothing else. It looks names up itself and connects to the very address it
looked at, so a name that points into a private network, or changes where it points, leads nowhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus

from flowforge.engines.sandboxes.authority import Authority
from flowforge.engines.sandboxes.connections import Connection, Counted, Refusal, Streamed
from flowforge.engines.sandboxes.relay import Relay
from flowforge.engines.sandboxes.secured import Secured
from flowforge.rules.jobs import egress
from flowforge.rules.jobs.egress_secrets import HostSecret

_HEAD_BYTES = 8 * 1024
_END_OF_HEAD = b"\r\n\r\n"
_HEAD_SECONDS = 10
_CONNECT_SECONDS = 15

Resolve = Callable[[str, int], Awaitable[list[str]]]


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


async def look_up(name: str, port: int) -> list[str]:
    """The addresses a name has."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(name, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


def trusted() -> ssl.SSLContext:
    """Whom this machine trusts to be who they say they are."""
    return ssl.create_default_context()


@dataclass(frozen=True)
class Route:
    """How a name becomes an address, and how it is known who answers there."""

    resolve: Resolve = look_up
    may_reach: Callable[[str], bool] = egress.is_public
    """Whether an address may be connected to."""

    trust: Callable[[], ssl.SSLContext] = trusted
    """How hosts that are told secrets prove who they are."""


PUBLIC = Route()
_BOUNDS = Bounds()


class Proxy:
    """Serves one sandbox.

    Args:
        hosts: Which it may reach.
        report: Told of each connection when it is over, also of those refused.
        route: How their names become addresses.
        bounds: How much may go through.
        secrets: What is said with every request to their hosts. To these the proxy speaks TLS
            itself, and stands in for them inside.
    """

    def __init__(
        self,
        hosts: Sequence[str],
        report: Callable[[Attempt], None],
        route: Route = PUBLIC,
        bounds: Bounds = _BOUNDS,
        secrets: Sequence[HostSecret] = (),
    ) -> None:
        self._hosts = hosts
        self._report = report
        self._bounds = bounds
        self._route = route
        self._secrets = secrets
        self._passed = 0
        self._open = 0
        names = [secret.address[0] for secret in secrets]
        self.authority = Authority(names) if names else None
        """What commands must trust, when there are secrets."""

    async def answer(self, inside: Connection) -> None:
        """Serve one connection of a command until it is over."""
        traffic = _Traffic()
        self._open += 1
        try:
            async with asyncio.timeout(self._bounds.seconds):
                await self._serve(inside, traffic)
        except Refusal as refusal:
            traffic.refusal = str(refusal)
            if not traffic.is_open:
                with contextlib.suppress(ConnectionError):
                    await inside.write(_say(refusal))
        except TimeoutError:
            traffic.refusal = "it took too long"
        except OSError as error:
            traffic.refusal = f"the connection broke ({type(error).__name__})"
        finally:
            self._open -= 1
            self._report(_told(traffic))

    async def _serve(self, inside: Connection, traffic: _Traffic) -> None:
        if self._open > self._bounds.connections:
            raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "too many connections at once")
        async with asyncio.timeout(_HEAD_SECONDS):
            head, rest = await _read_head(inside)
        traffic.host, traffic.port = _parse(head)
        secrets = [one for one in self._secrets if one.address == (traffic.host, traffic.port)]
        outside = await self._connect(traffic.host, traffic.port, is_secured=bool(secrets))
        try:
            await inside.write(b"HTTP/1.1 200 Connected\r\n\r\n")
            traffic.is_open = True
            self._count(len(rest), traffic, is_out=True)
            near = Counted(inside, lambda size: self._count(size, traffic, is_out=True))
            far = Counted(outside, lambda size: self._count(size, traffic, is_out=False))
            if secrets:
                await self._relay(near, far, secrets, rest)
            else:
                await far.write(rest)
                await _carry_both(near, far)
        finally:
            outside.close()

    async def _relay(
        self, inside: Connection, outside: Connection, secrets: Sequence[HostSecret], first: bytes
    ) -> None:
        assert self.authority
        stand_in = self.authority.stand_in(secrets[0].address[0])
        secured = Secured(inside, stand_in, first)
        try:
            await secured.shake_hands()
        except ssl.SSLError as error:
            why = "the command does not trust the proxy; SSL_CERT_FILE names whom to trust"
            raise Refusal(HTTPStatus.BAD_REQUEST, why) from error
        try:
            await Relay(secured, outside, secrets).run()
        finally:
            await secured.end()

    async def _connect(self, host: str, port: int, *, is_secured: bool) -> Streamed:
        if not egress.is_allowed(self._hosts, host, port):
            why = f"{host}:{port} is not among the hosts of this job"
            raise Refusal(HTTPStatus.FORBIDDEN, why)
        try:
            addresses = await self._route.resolve(host, port)
        except OSError as error:
            raise Refusal(HTTPStatus.BAD_GATEWAY, f"{host} has no address") from error
        if not addresses or not all(map(self._route.may_reach, addresses)):
            why = f"{host} is an address of a private network"
            raise Refusal(HTTPStatus.FORBIDDEN, why)
        name, context = (host, self._trust) if is_secured else (None, None)
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                opened = await asyncio.open_connection(
                    addresses[0], port, ssl=context, server_hostname=name
                )
                return Streamed(*opened)
        except ssl.SSLError as error:
            why = f"{host} does not prove who it is ({type(error).__name__})"
            raise Refusal(HTTPStatus.BAD_GATEWAY, why) from error
        except (OSError, TimeoutError) as error:
            raise Refusal(HTTPStatus.BAD_GATEWAY, f"{host} does not answer") from error

    @functools.cached_property
    def _trust(self) -> ssl.SSLContext:
        context = self._route.trust()
        context.set_alpn_protocols(["http/1.1"])
        return context

    def _count(self, size: int, traffic: _Traffic, *, is_out: bool) -> None:
        self._passed += size
        if is_out:
            traffic.sent += size
        else:
            traffic.received += size
        if self._passed > self._bounds.bytes:
            raise Refusal(HTTPStatus.FORBIDDEN, "the job has used up what it may transfer")


async def _carry_both(inside: Connection, outside: Connection) -> None:
    try:
        async with asyncio.TaskGroup() as both_ways:
            both_ways.create_task(_carry(inside, outside))
            both_ways.create_task(_carry(outside, inside))
    except ExceptionGroup as group:
        raise group.exceptions[0] from group


async def _carry(source: Connection, target: Connection) -> None:
    while data := await source.read():
        await target.write(data)
    await target.end()


async def _read_head(connection: Connection) -> tuple[bytes, bytes]:
    """What comes until the first empty line, and what came behind it already."""
    data = b""
    while _END_OF_HEAD not in data:
        more = await connection.read()
        data += more
        if not more or len(data) > _HEAD_BYTES:
            raise Refusal(HTTPStatus.BAD_REQUEST, "the request has no end")
    head, _, rest = data.partition(_END_OF_HEAD)
    return head, rest


def _parse(head: bytes) -> tuple[str, int]:
    method, _, rest = head.split(b"\r\n", 1)[0].decode("ascii", "replace").partition(" ")
    if method != "CONNECT":
        raise Refusal(HTTPStatus.METHOD_NOT_ALLOWED, "only HTTPS leaves this sandbox")
    host, _, port = rest.partition(" ")[0].rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65_535:
        raise Refusal(HTTPStatus.BAD_REQUEST, "the host or the port cannot be read")
    return host.lower().rstrip("."), int(port)


def _say(refusal: Refusal) -> bytes:
    status = HTTPStatus(refusal.status)
    return f"HTTP/1.1 {status.value} {status.phrase}\r\n\r\n{refusal}\n".encode()


def _told(traffic: _Traffic) -> Attempt:
    return Attempt(
        host=traffic.host,
        port=traffic.port,
        refusal=traffic.refusal,
        sent_bytes=traffic.sent,
        received_bytes=traffic.received,
        seconds=time.monotonic() - traffic.started,
    )
