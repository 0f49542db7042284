"""Both ways of a connection as the proxy sees them, whatever carries their bytes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Protocol

CHUNK = 64 * 1024


class Connection(Protocol):
    """One end of a connection. Whoever opened it closes it."""

    async def read(self) -> bytes:
        """Some bytes, or none when the other end has said all."""
        ...

    async def write(self, data: bytes) -> None:
        """Send bytes, once the other end takes more."""
        ...

    async def end(self) -> None:
        """Say that no more comes from here."""
        ...


class Refusal(Exception):
    """What a command asked for and does not get; the text is told to it and to people."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status
        """As HTTP says it."""


class Streamed:
    """A connection of this machine's network.

    Args:
        reader: What comes.
        writer: What goes.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def read(self) -> bytes:
        """Some bytes, or none when the other end has said all."""
        return await self._reader.read(CHUNK)

    async def write(self, data: bytes) -> None:
        """Send bytes, once the other end takes more."""
        self._writer.write(data)
        await self._writer.drain()

    async def end(self) -> None:
        """Say that no more comes from here."""
        with contextlib.suppress(OSError):
            self._writer.write_eof()

    def close(self) -> None:
        """Let go of it."""
        self._writer.close()


class Counted:
    """A connection whose reader tells how much it read.

    Args:
        inner: The connection.
        count: Told each number of bytes; it may raise to end the connection.
    """

    def __init__(self, inner: Connection, count: Callable[[int], None]) -> None:
        self._inner = inner
        self._count = count
        self.write = inner.write
        self.end = inner.end

    async def read(self) -> bytes:
        """Some bytes, or none when the other end has said all."""
        data = await self._inner.read()
        self._count(len(data))
        return data
