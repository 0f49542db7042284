"""As much of HTTP/1.1 as a client on loopback needs, with the socket at hand to break it."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import parse_qs, urlsplit

from flowforge.twin.model.problems import Rejected

HEAD_BYTES = 64 * 1024
BODY_BYTES = 32 * 1024 * 1024
LABEL = "flowforge-rehearsal"


@dataclass(frozen=True)
class Request:
    """One request, read whole."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: Mapping[str, str]
    """By name in small letters."""

    body: bytes


class Connection:
    """One connection of a client."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def read(self) -> Request | None:
        """The next request; nothing when the client is done.

        Raises:
            Rejected: It is none, or too large.
        """
        try:
            head = await self._reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return None
        except asyncio.LimitOverrunError:
            raise Rejected(431, "The head of the request is too large.") from None
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {
            name.strip().lower(): value.strip()
            for name, _, value in (line.partition(":") for line in lines if line)
        }
        method, _, rest = first.partition(" ")
        target = urlsplit(rest.rpartition(" ")[0])
        length = headers.get("content-length", "0")
        if "transfer-encoding" in headers or not length.isdigit():
            raise Rejected(411, "The length of the request is missing.")
        if int(length) > BODY_BYTES:
            raise Rejected(413, "Request exceeds the maximum size")
        body = await self._reader.readexactly(int(length))
        return Request(method, target.path, parse_qs(target.query), headers, body)

    async def write(self, content: bytes) -> None:
        """Send bytes, waiting for a slow reader.

        Raises:
            ConnectionError: The client has gone.
        """
        self._writer.write(content)
        await self._writer.drain()

    async def left_within(self, seconds: float | None) -> bool:
        """Wait, and say whether the client went away meanwhile.

        Args:
            seconds: How long; without it until the client goes.
        """
        try:
            async with asyncio.timeout(seconds):
                # A client says nothing while it is answered: what can be read is its end.
                await self._reader.read(1)
        except TimeoutError:
            return False
        except ConnectionError:
            return True
        return True

    async def close(self) -> None:
        """Send what was written, then the end of the connection."""
        self._writer.close()
        try:
            await self._writer.wait_closed()
        except ConnectionError:
            return

    def reset(self) -> None:
        """End the connection with a reset instead of an end."""
        held = self._writer.get_extra_info("socket")
        held.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()


def head(status: int, headers: Mapping[str, str]) -> bytes:
    """The head of a reply, labelled."""
    phrases = {one.value: one.phrase for one in HTTPStatus}
    lines = [f"HTTP/1.1 {status} {phrases.get(status, 'Unknown')}", f"{LABEL}: 1"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def chunk(content: bytes) -> bytes:
    """A piece of a reply whose length is not known before; an empty one ends it."""
    return b"%x\r\n%b\r\n" % (len(content), content)
