"""The brain's end of the connections that commands make to the proxy's port.

They come over the stream to the keeper, like everything that is said with a sandbox. What is under
way is bounded for each: nothing grows when a command does not read, nor when a host sends fast.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable

from flowforge.engines.sandboxes.connections import Connection
from flowforge.engines.sandboxes.inside import frames

Send = Callable[[bytes], Awaitable[None]]
Answer = Callable[[Connection], Awaitable[None]]


class Link:
    """One connection of a command.

    Args:
        number: As the keeper counts.
        send: Takes a frame for the keeper.
    """

    def __init__(self, number: int, send: Send) -> None:
        self._number = number
        self._send = send
        self._come: deque[bytes] = deque()
        self._has_come = asyncio.Event()
        self._waiting = 0
        self._under_way = 0
        self._taken = asyncio.Event()
        self._is_complete = False

    async def read(self) -> bytes:
        """Some bytes, or none when the command has said all."""
        while not self._come:
            if self._is_complete:
                return b""
            self._has_come.clear()
            await self._has_come.wait()
        data = self._come.popleft()
        self._waiting -= len(data)
        await self._tell(frames.LINK_TAKEN, len(data).to_bytes(4, "big"))
        return data

    async def write(self, data: bytes) -> None:
        """Send bytes, once the command takes more."""
        for start in range(0, len(data), frames.CHUNK):
            piece = data[start : start + frames.CHUNK]
            while self._under_way + len(piece) > frames.WINDOW:
                self._taken.clear()
                await self._taken.wait()
            self._under_way += len(piece)
            await self._tell(frames.LINK_DATA, piece)

    async def end(self) -> None:
        """Say that no more comes from here."""
        await self._tell(frames.LINK_END)

    async def close(self) -> None:
        """Say the last word, if anybody hears it."""
        with contextlib.suppress(ConnectionError):
            await self._tell(frames.LINK_CLOSED)

    def take(self, kind: bytes, payload: bytes) -> None:
        """Take a frame of the keeper.

        Raises:
            Broken: It sent more than it may.
        """
        if kind == frames.LINK_DATA:
            self._waiting += len(payload)
            if self._waiting > frames.WINDOW:
                raise frames.Broken("more came than a link may hold")
            self._come.append(payload)
        elif kind == frames.LINK_TAKEN:
            self._under_way -= int.from_bytes(payload, "big")
            self._taken.set()
        elif kind == frames.LINK_END:
            self._is_complete = True
        self._has_come.set()

    async def _tell(self, kind: bytes, payload: bytes = b"") -> None:
        await self._send(frames.pack(kind, self._number, payload))


class Links:
    """All connections of one sandbox.

    Args:
        send: Takes a frame for the keeper.
        answer: Serves one connection until it is over; `None` where commands reach nobody.
    """

    def __init__(self, send: Send, answer: Answer | None) -> None:
        self._send = send
        self._answer = answer
        self._open: dict[int, tuple[Link, asyncio.Task[None]]] = {}

    def take(self, kind: bytes, number: int, payload: bytes) -> None:
        """Take a frame of the keeper.

        Raises:
            Broken: It makes no sense.
        """
        if kind == frames.LINK_OPENED:
            self._begin(number)
        elif number in self._open:  # else our last word on it is still on its way
            link, serving = self._open[number]
            if kind == frames.LINK_CLOSED:
                serving.cancel()
            else:
                link.take(kind, payload)

    async def close(self) -> None:
        """End all of them."""
        serving = [task for _, task in self._open.values()]
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)

    def _begin(self, number: int) -> None:
        if self._answer is None or number in self._open:
            raise frames.Broken("a link that cannot be")
        if len(self._open) >= frames.MOST_LINKS:
            raise frames.Broken("more links than there may be")
        link = Link(number, self._send)
        serving = asyncio.create_task(self._serve(number, link, self._answer))
        self._open[number] = (link, serving)

    async def _serve(self, number: int, link: Link, answer: Answer) -> None:
        try:
            await answer(link)
        finally:
            del self._open[number]
            await link.close()
