"""HTTPS servers on loopback that remember what they were asked."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import h11

from flowforge.engines.sandboxes.authority import Authority
from tests.ports import free_port


@dataclass
class Asked:
    """One request as a server got it."""

    line: str
    headers: list[tuple[str, str]]
    body: bytes

    def all(self, name: str) -> list[str]:
        return [value for known, value in self.headers if known == name]


@dataclass
class Host:
    """A server and what it was asked."""

    port: int
    authority: Authority
    asked: list[Asked] = field(default_factory=list)
    connections: int = 0

    def trusted(self) -> ssl.SSLContext:
        """Trust in this server alone."""
        return ssl.create_default_context(cadata=self.authority.certificate)


@contextlib.asynccontextmanager
async def https_host(
    name: str,
    *,
    names_itself: str | None = None,
    answer: bytes | None = None,
    lingers: bool = False,
) -> AsyncIterator[Host]:
    """A server of a name; its answers show all that it was asked, headers and body.

    With an `answer` it says only that, as soon as it has seen the head of a request, and hangs up;
    unless it lingers until the other side does.
    """
    host = Host(free_port(), Authority(["test"]))

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host.connections += 1
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            if answer is None:
                await _talk(reader, writer, host)
            else:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(answer)
                await writer.drain()
                if lingers:
                    await reader.read()
        writer.close()

    context = host.authority.stand_in(names_itself or name)
    server = await asyncio.start_server(serve, "127.0.0.1", host.port, ssl=context)
    try:
        yield host
    finally:
        server.close()


async def _talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: Host) -> None:
    http = h11.Connection(h11.SERVER)

    async def next_event() -> object:
        while (event := http.next_event()) is h11.NEED_DATA:
            http.receive_data(await reader.read(65536))
        return event

    while isinstance(request := await next_event(), h11.Request):
        body = b""
        while isinstance(event := await next_event(), h11.Data):
            body += bytes(event.data)
        headers = [(name.decode(), value.decode()) for name, value in request.headers]
        asked = Asked(f"{request.method.decode()} {request.target.decode()}", headers, body)
        host.asked.append(asked)
        shown = "".join(f"{name}: {value}\n" for name, value in headers).encode() + body
        answer = h11.Response(status_code=200, headers=[("x-shown", asked.line)])
        for said in (answer, h11.Data(data=shown), h11.EndOfMessage()):
            writer.write(http.send(said) or b"")
        await writer.drain()
        if http.our_state is not h11.DONE:
            return
        http.start_next_cycle()
