"""A proxy on loopback that lets a server fail as services over a network do.

It gives one connection to each request, so what it does to one touches no other. As Amazon S3 does
and moto does not, it refuses a body that has not the SHA-256 its sender gave.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
import ssl
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Request:
    """One request as it came."""

    line: str
    """Method and target, for example `PUT /bucket/key?partNumber=7`."""

    headers: Mapping[str, str]
    body: bytes


Forward = Callable[[Request], Awaitable[bytes]]
Fault = Callable[[Request, Forward], Awaitable[bytes | None]]
"""Makes a whole answer, or `None` to cut the connection."""


@dataclass
class Proxy:
    """Stands before a server; fails where it was told to."""

    url: str = ""
    seen: list[str] = field(default_factory=list)
    """The line of every request, in order."""

    _faults: list[tuple[Callable[[Request], bool], Fault, list[int]]] = field(default_factory=list)

    def fail(
        self,
        pattern: str,
        fault: Fault,
        *,
        times: int = 1,
        when: Callable[[Request], bool] = lambda _: True,
    ) -> None:
        """Do something to the next requests whose line a pattern is found in."""
        found = re.compile(pattern)
        self._faults.append((lambda r: bool(found.search(r.line)) and when(r), fault, [times]))

    def count(self, pattern: str) -> int:
        """How many requests came whose line a pattern is found in."""
        return sum(bool(re.search(pattern, line)) for line in self.seen)

    def next_fault(self, request: Request) -> Fault | None:
        """What is to be done to a request."""
        for matches, fault, left in self._faults:
            if left[0] and matches(request):
                left[0] -= 1
                return fault
        return None


def answer(status: int, code: str, *, headers: str = "", more: str = "") -> Fault:
    """Answer with an error of S3, without passing the request on."""

    async def act(_: Request, __: Forward) -> bytes:
        return _error(status, code, headers, more)

    return act


async def cut_before(_: Request, __: Forward) -> None:
    """Close the connection; the server never hears of the request."""


async def cut_after(request: Request, forward: Forward) -> None:
    """Let the server do it, and close the connection without its answer."""
    await forward(request)


async def stall(_: Request, __: Forward) -> None:
    """Be silent for longer than anybody waits."""
    await asyncio.sleep(3600)


async def flip_sent(request: Request, forward: Forward) -> bytes:
    """Flip a bit of what is sent."""
    return await forward(Request(request.line, request.headers, _flip(request.body)))


def without(header: str) -> Fault:
    """Pass the request on without one of its headers, as a service does that does not know it."""

    async def act(request: Request, forward: Forward) -> bytes:
        kept = {name: value for name, value in request.headers.items() if name != header}
        return await forward(Request(request.line, kept, request.body))

    return act


def truncate(kept: int) -> Fault:
    """Cut the connection after some bytes of the body of the answer."""

    async def act(request: Request, forward: Forward) -> bytes:
        head, _, body = (await forward(request)).partition(b"\r\n\r\n")
        return head + b"\r\n\r\n" + body[:kept]

    return act


def rewrite(pattern: str, text: str) -> Fault:
    """Change the body of the answer."""

    async def act(request: Request, forward: Forward) -> bytes:
        _, _, body = (await forward(request)).partition(b"\r\n\r\n")
        return _reply(200, re.sub(pattern.encode(), text.encode(), body, flags=re.DOTALL))

    return act


@contextmanager
def stand_before(upstream: str, tls: ssl.SSLContext | None = None) -> Iterator[Proxy]:
    """Run a proxy before the server at a URL; with a certificate of its own if one is given."""
    proxy, loop = Proxy(), asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    server = asyncio.run_coroutine_threadsafe(_listen(proxy, upstream, tls), loop).result()
    host, port = server.sockets[0].getsockname()
    proxy.url = f"{'https' if tls else 'http'}://{host}:{port}"
    try:
        yield proxy
    finally:
        asyncio.run_coroutine_threadsafe(_end(server), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _end(server: asyncio.Server) -> None:
    server.close()
    others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


async def _listen(proxy: Proxy, upstream: str, tls: ssl.SSLContext | None) -> asyncio.Server:
    address = urlsplit(upstream)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            request = await _read(reader, writer)
            proxy.seen.append(request.line)
            fault = proxy.next_fault(request)
            said = await (fault(request, forward) if fault else forward(request))
            writer.write(said or b"")
            await writer.drain()
        await _close(writer)

    async def forward(request: Request) -> bytes:
        given = request.headers.get("x-amz-checksum-sha256")
        real = base64.b64encode(hashlib.sha256(request.body).digest()).decode()
        if given not in (None, real):
            return _error(400, "BadDigest")
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        fields = {**request.headers, "connection": "close", "expect": ""}
        head = [f"{request.line} HTTP/1.1"]
        head += [f"{name}: {value}" for name, value in fields.items() if value]
        writer.write("\r\n".join([*head, "", ""]).encode() + request.body)
        said = await reader.read()
        await _close(writer)
        return said

    return await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(OSError):  # the other side may have gone first
        await writer.wait_closed()


async def _read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Request:
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    pairs = (line.partition(":") for line in lines if line)
    headers = {name.lower(): value.strip() for name, _, value in pairs}
    if headers.get("expect", "").lower() == "100-continue":
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        await writer.drain()
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Request(first.rpartition(" ")[0], headers, body)


def _error(status: int, code: str, headers: str = "", more: str = "") -> bytes:
    body = f"<Error><Code>{code}</Code><Message>told to</Message>{more}</Error>"
    return _reply(status, body.encode(), headers)


def _reply(status: int, body: bytes, headers: str = "") -> bytes:
    head = f"HTTP/1.1 {status} x\r\ncontent-length: {len(body)}\r\nconnection: close\r\n{headers}"
    return head.encode() + b"\r\n" + body


def _flip(body: bytes) -> bytes:
    return bytes([body[0] ^ 1]) + body[1:]
