"""The rehearsal model for tests that do not run on an event loop, and prompts that steer it."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from queue import SimpleQueue

from flowforge.twin.model.server import Server, serve
from flowforge.twin.model.state import State


@contextmanager
def rehearsing(state: State | None = None, batch_seconds: float = 0.0) -> Iterator[Server]:
    """Serve from a thread while the block lasts."""
    started: SimpleQueue[tuple[Server, asyncio.AbstractEventLoop, asyncio.Event]] = SimpleQueue()

    async def run() -> None:
        over = asyncio.Event()
        async with serve(state=state, batch_seconds=batch_seconds) as server:
            started.put((server, asyncio.get_running_loop(), over))
            await over.wait()

    thread = threading.Thread(target=asyncio.run, args=(run(),))
    thread.start()
    server, loop, over = started.get(timeout=10)
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join(10)
        assert not thread.is_alive()


def scripted(*turns: object, request: str = "Do what the script says.") -> str:
    """A prompt whose replies are known: one mapping a reply, as `flowforge.twin.model.script`."""
    return f"{request}\n\n```rehearsal\n{json.dumps(turns)}\n```\n"
