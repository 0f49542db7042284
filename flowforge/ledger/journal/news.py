"""Hear at once that something about a job changed, on one connection for a whole process.

News only wakes: who is woken looks for itself. So nothing is lost when the connection is, only
slower, because everybody who waits also looks now and then unasked.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator

import psycopg
from sqlalchemy.ext.asyncio import AsyncEngine

from flowforge.errors import FlowForgeError
from flowforge.ledger.journal.connection import connected, driver
from flowforge.ledger.journal.fragments import CHANNEL, TO_WORKER

_RECONNECT_SECONDS = 1.0
_EVERY = ""


class Watch:
    """Somebody's interest in one job."""

    def __init__(self) -> None:
        self._changed = asyncio.Event()

    def changed(self) -> None:
        """Wake whoever waits."""
        self._changed.set()

    def seen(self) -> None:
        """From now on only what changes later counts; call it before looking."""
        self._changed.clear()

    async def wait(self, seconds: float) -> bool:
        """Wait for a change; whether there was one in time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        return self._changed.is_set()


class News:
    """Who watches which job."""

    def __init__(self) -> None:
        self._watches: dict[str, set[Watch]] = defaultdict(set)

    @contextlib.contextmanager
    def watch(self, job: str) -> Iterator[Watch]:
        """Be woken whenever something about the job changes."""
        watch = Watch()
        self._watches[job].add(watch)
        try:
            yield watch
        finally:
            self._watches[job].discard(watch)
            if not self._watches[job]:
                del self._watches[job]

    def watch_as_worker(self, job: str) -> contextlib.AbstractContextManager[Watch]:
        """Be woken when the job is cancelled, or taken from whoever works on it."""
        return self.watch(TO_WORKER + job)

    def watch_all(self) -> contextlib.AbstractContextManager[Watch]:
        """Be woken whenever something about any job changes."""
        return self.watch(_EVERY)

    def tell(self, job: str) -> None:
        """Wake everybody who watches the job."""
        for watch in (*self._watches.get(job, ()), *self._watches.get(_EVERY, ())):
            watch.changed()

    def tell_all(self) -> None:
        """Wake everybody: nobody knows what was missed."""
        for watches in self._watches.values():
            for watch in watches:
                watch.changed()


@contextlib.asynccontextmanager
async def listen(engine: AsyncEngine) -> AsyncIterator[News]:
    """Hear what changes, until the end of the block; one of the engine's connections is in use."""
    news = News()
    hearing = asyncio.create_task(_hear(engine, news))
    try:
        yield news
    finally:
        hearing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await hearing


async def _hear(engine: AsyncEngine, news: News) -> None:
    while True:
        with contextlib.suppress(FlowForgeError):  # those who wait still look for themselves
            await _hear_once(engine, news)
        await asyncio.sleep(_RECONNECT_SECONDS)


async def _hear_once(engine: AsyncEngine, news: News) -> None:
    async with connected(engine) as connection:
        hearing = driver(connection)
        await hearing.execute(f"LISTEN {CHANNEL}")
        news.tell_all()
        try:
            with contextlib.suppress(psycopg.OperationalError):
                async for notice in hearing.notifies():
                    news.tell(notice.payload)
        finally:
            await connection.invalidate()  # given back to the pool it would go on listening
