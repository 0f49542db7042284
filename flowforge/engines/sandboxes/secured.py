"""TLS as a server over whatever carries bytes."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Callable
from typing import TypeVar

from flowforge.engines.sandboxes.connections import CHUNK, Connection

Result = TypeVar("Result")


class Secured:
    """The plain side of a connection whose other end speaks TLS.

    Args:
        inner: What carries the bytes of TLS.
        context: Who we are.
        first: Bytes of the other end that were read already.
    """

    def __init__(self, inner: Connection, context: ssl.SSLContext, first: bytes) -> None:
        self._inner = inner
        self._come, self._go = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._come.write(first)
        self._tls = context.wrap_bio(self._come, self._go, server_side=True)

    async def shake_hands(self) -> None:
        """Agree on keys.

        Raises:
            SSLError: The other end does not want us.
        """
        await self._do(self._tls.do_handshake)

    async def read(self) -> bytes:
        """Some bytes, or none when the other end has said all."""
        try:
            return await self._do(lambda: self._tls.read(CHUNK))
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            return b""  # many end without a word; HTTP itself tells what is whole

    async def write(self, data: bytes) -> None:
        """Send bytes, once the other end takes more."""
        self._tls.write(data)
        await self._flush()

    async def end(self) -> None:
        """Say that no more comes from here."""
        with contextlib.suppress(ssl.SSLError):  # the answer to it is not waited for
            self._tls.unwrap()
        await self._flush()

    async def _do(self, action: Callable[[], Result]) -> Result:
        while True:
            try:
                result = action()
            except ssl.SSLWantReadError:
                await self._flush()
                if data := await self._inner.read():
                    self._come.write(data)
                else:
                    self._come.write_eof()
            else:
                await self._flush()
                return result

    async def _flush(self) -> None:
        if data := self._go.read():
            await self._inner.write(data)
