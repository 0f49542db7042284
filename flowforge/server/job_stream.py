"""What happens in a job as server-sent events, from any number on.

Every event has its number as its id, so whoever was cut off asks again with `Last-Event-ID` and
misses nothing. The stream of a job that has ended closes with a message `closed`; one that stops
without it was cut.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator

from flowforge.errors import FlowForgeError
from flowforge.ledger.journal import events, jobs
from flowforge.rules.jobs.records import Event
from flowforge.server.journal import Journal

HEARTBEAT_SECONDS = 10.0
RECONNECT_MILLISECONDS = 1000
_AHEAD = 100
"""So many events are read ahead of a reader that is slow."""

_END = None


async def stream(journal: Journal, job: str, after: int) -> AsyncIterator[bytes]:
    """The events after a number as they are sent, until the job has ended.

    Args:
        journal: Where they are.
        job: Which exists.
        after: The number of the last one known.
    """
    yield f"retry: {RECONNECT_MILLISECONDS}\n\n".encode()
    queue: asyncio.Queue[bytes | None] = asyncio.Queue(_AHEAD)
    reading = asyncio.create_task(_read(journal, job, after, queue))
    try:
        while True:
            try:
                message = await asyncio.wait_for(queue.get(), HEARTBEAT_SECONDS)
            except TimeoutError:
                yield b": nothing new\n\n"
                continue
            if message is _END:
                return
            yield message
    finally:
        reading.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await reading


def spell(event: Event) -> bytes:
    """One event as it is sent."""
    data = json.dumps(event.model_dump(mode="json"))  # no character in it ends a line
    return f"id: {event.seq}\nevent: {event.kind}\ndata: {data}\n\n".encode()


async def _read(journal: Journal, job: str, after: int, queue: asyncio.Queue[bytes | None]) -> None:
    # A ledger that went away, or a job that was deleted, cuts the stream: the reader asks again
    # and is then told why.
    with contextlib.suppress(FlowForgeError):
        async for event in events.follow(journal.engine, journal.news, job, after=after):
            await queue.put(spell(event))
        state = (await jobs.look(journal.engine, job)).state
        await queue.put(f"event: closed\ndata: {json.dumps({'state': state})}\n\n".encode())
    await queue.put(_END)
