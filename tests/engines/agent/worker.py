"""A worker in a process of its own, which a test may have die at a step."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from multiprocessing.context import ForkServerProcess

from tests.engines.agent.stage import staged

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload([__name__])


def _work(url: str, model_url: str, job: str, kill_at: str | None) -> None:
    if kill_at is not None:
        os.environ["FLOWFORGE_KILL_AT"] = kill_at

    async def attempt() -> None:
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        async with staged(url, model_url=model_url) as stage:
            await stage.work(job)

    asyncio.run(attempt())


@contextmanager
def elsewhere(work: Callable[..., None], *args: object) -> Iterator[ForkServerProcess]:
    """Work in a process of its own, which is over when the block is."""
    process = _CONTEXT.Process(target=work, args=args)
    process.start()
    try:
        yield process
    finally:
        process.kill()
        process.join()
        process.close()


def working(
    url: str, model_url: str, job: str, kill_at: str | None = None
) -> AbstractContextManager[ForkServerProcess]:
    """One attempt of a job, elsewhere."""
    return elsewhere(_work, url, model_url, job, kill_at)
