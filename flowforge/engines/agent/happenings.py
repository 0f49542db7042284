"""What happens in a job, on its way to the people who follow it: masked, gathered, written.

What streams in is gathered for a moment, so that a fast reply is a few events and not thousands,
and a fast turn one write and not ten. A ledger that has much to do is written to less often. While
it is away everything waits here.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine

from flowforge.engines.agent.redaction import Redactor, Stream
from flowforge.engines.sandboxes.contacts import Contact
from flowforge.errors import Unavailable
from flowforge.ledger.journal import events
from flowforge.ledger.journal.leases import Fenced, Lease

GATHER_SECONDS = 0.25
_MOST_SECONDS = 2.0
_RARER = 10  # a write that took so long is followed by a pause so many times as long
MOST_WAITING = 10_000


class Happenings:
    """The one way by which an attempt tells what it does.

    Args:
        engine: The ledger.
        lease: The attempt's.
        redactor: Masks the job's secrets in all of it.
    """

    def __init__(self, engine: AsyncEngine, lease: Lease, redactor: Redactor) -> None:
        self._engine, self._lease, self._redactor = engine, lease, redactor
        self._waiting: list[tuple[str, dict[str, Any]]] = []
        self._written = 0
        self._pause_seconds = GATHER_SECONDS
        self._text: tuple[int, int, Stream] | None = None
        self._gathered = ""
        self._flushing = asyncio.Lock()
        self._later: asyncio.Task[None] | None = None

    def text(self, n: int, call: int, delta: str) -> None:
        """A piece of the reply to call `call` of turn `n`."""
        if self._text is None or self._text[:2] != (n, call):
            self._end_text()
            self._text = (n, call, self._redactor.stream())
        self._gathered += self._text[2].feed_text(delta)
        self._flush_soon()

    def tell(self, kind: str, **data: Any) -> None:
        """Something happened; it is written in a moment, with what follows until then."""
        self._end_text()
        self._waiting.append((kind, self.masked(data)))
        self._flush_soon()

    def tell_contacts(self, contacts: Iterable[Contact]) -> None:
        """Commands reached hosts, or were kept from them."""
        for contact in contacts:
            self.tell("egress", **asdict(contact))

    async def add(self, kind: str, **data: Any) -> None:
        """Something happened; it is written before this returns, if the ledger answers."""
        self._end_text()
        self._waiting.append((kind, self.masked(data)))
        await self.flush()

    def mask(self, text: str) -> str:
        """A text without the job's secrets."""
        return self._redactor.text(text)

    def masked(self, value: Any) -> Any:
        """A value whose texts are without the job's secrets."""
        if isinstance(value, str):
            return self._redactor.text(value)
        if isinstance(value, dict):
            return {key: self.masked(inner) for key, inner in value.items()}
        if isinstance(value, list | tuple):
            return [self.masked(inner) for inner in value]
        return value

    async def flush(self) -> None:
        """Write what waits. While the ledger does not answer it goes on waiting."""
        async with self._flushing:
            self._take_text()
            batch = self._waiting[:]
            if not batch:
                return
            began = time.monotonic()
            with contextlib.suppress(Unavailable):
                await events.append(self._engine, self._lease, batch, before=self._written)
                self._written += len(batch)
                del self._waiting[: len(batch)]
            del self._waiting[:-MOST_WAITING]
            pause = _RARER * (time.monotonic() - began)
            self._pause_seconds = min(max(GATHER_SECONDS, pause), _MOST_SECONDS)

    async def close(self) -> None:
        """Write what is left."""
        if self._later is not None:
            self._later.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._later
        self._end_text()
        await self.flush()

    def _flush_soon(self) -> None:
        if self._later is None or self._later.done():
            self._later = asyncio.create_task(self._flush_later())

    async def _flush_later(self) -> None:
        await asyncio.sleep(self._pause_seconds)
        with contextlib.suppress(Fenced):  # who works on is told by the next write
            await self.flush()

    def _take_text(self) -> None:
        if self._text is not None and self._gathered:
            n, call, _ = self._text
            self._waiting.append(("text", {"n": n, "call": call, "delta": self._gathered}))
            self._gathered = ""

    def _end_text(self) -> None:
        if self._text is not None:
            self._gathered += self._text[2].end_text()
            self._take_text()
            self._text = None
