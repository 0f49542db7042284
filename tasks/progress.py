"""A progress bar in the UI, for work long enough to need one."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
import time
from collections.abc import AsyncIterator
from uuid import UUID

import httpx
from prefect import get_run_logger
from prefect.artifacts import (
    acreate_progress_artifact,
    aupdate_progress_artifact,
    create_progress_artifact,
    update_progress_artifact,
)
from prefect.exceptions import PrefectException

from flowforge.engines.agent.attempt import Attempt
from flowforge.engines.backup.dumping.progress import Progress
from flowforge.errors import FlowForgeError
from flowforge.rules.jobs import job_reports

_EVERY_SECONDS = 2.0
JOB_EVERY_SECONDS = 3.0
_MOST_SECONDS = 5.0
"""No job waits longer for what is only shown."""


class Bar:
    """A bar that appears once the work has taken a while, and belongs to the run that made it.

    It may be told from any thread: several sessions load a copy side by side.
    """

    def __init__(self) -> None:
        self._next = time.monotonic() + _EVERY_SECONDS
        self._artifact: UUID | None = None
        self._guard = threading.Lock()
        self._run = contextvars.copy_context()

    def show(self, part: float, said: str) -> None:
        """Show how much of the work is done, from 0 to 1, and say what is being done."""
        with self._guard:
            if time.monotonic() < self._next:
                return
            self._next = time.monotonic() + _EVERY_SECONDS
            self._run.run(self._draw, 100 * min(0.99, part), said)

    def _draw(self, percent: float, said: str) -> None:
        if self._artifact is None:
            made = create_progress_artifact(percent, description=said)
            assert isinstance(made, UUID)  # the call is synchronous here
            self._artifact = made
        else:
            update_progress_artifact(self._artifact, percent, description=said)


class CopyBar(Bar):
    """How far a copy has come."""

    def __init__(self, database: str) -> None:
        super().__init__()
        self._database = database

    def tell(self, progress: Progress) -> None:
        """Show it; the text of a database is about as large as its files, and the bar says so."""
        said = (
            f"{self._database}: {progress.raw_bytes / 1e6:,.0f} MB of text, "
            f"{progress.tables_done} tables done, now {progress.table or 'definitions'} "
            "(estimated from the size of the database)"
        )
        self.show(progress.raw_bytes / max(1, progress.database_bytes), said)


class LoadBar(Bar):
    """How far a restore has come."""

    def __init__(self, copy_name: str) -> None:
        super().__init__()
        self._copy_name = copy_name

    def tell(self, done_bytes: int, all_bytes: int, table: str | None) -> None:
        """Show how many bytes of the copy are loaded; indexes and the comparison come after."""
        said = (
            f"{self._copy_name}: {done_bytes / 1e6:,.0f} of {all_bytes / 1e6:,.0f} MB loaded, "
            f"last {table or 'definitions'}; then indexes and the comparison"
        )
        self.show(done_bytes / max(1, all_bytes), said)


class JobBar:
    """How much of its limits an agent job has used, after its turns, and how it ended.

    Whatever goes wrong with it, the job goes on.
    """

    def __init__(self) -> None:
        self._next = time.monotonic() + JOB_EVERY_SECONDS
        self._artifact: UUID | None = None

    async def tell(self, work: Attempt) -> None:
        """Show how it stands after a turn, unless that was shown a moment ago."""
        if time.monotonic() < self._next:
            return
        async with _only_shown():
            part, said = job_reports.progress(await work.look(), work.job.spec.limits.turns)
            await self._draw(100 * min(0.99, part), said)
        self._next = time.monotonic() + JOB_EVERY_SECONDS

    async def end(self, said: str) -> None:
        """Say how it ended, if it was long enough to have a bar."""
        if self._artifact is not None:
            async with _only_shown():
                await self._draw(100, said)

    async def _draw(self, percent: float, said: str) -> None:
        if self._artifact is None:
            self._artifact = await acreate_progress_artifact(percent, description=said)
        else:
            await aupdate_progress_artifact(self._artifact, percent, description=said)


@contextlib.asynccontextmanager
async def _only_shown() -> AsyncIterator[None]:
    """Leave the block when it fails or takes too long: the work goes on."""
    try:
        async with asyncio.timeout(_MOST_SECONDS):
            yield
    except (FlowForgeError, PrefectException, httpx.HTTPError, OSError, RuntimeError) as error:
        get_run_logger().warning("how far the job is was not shown: %r", error)
