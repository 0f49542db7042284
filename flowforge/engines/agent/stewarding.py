"""Keep jobs, flow runs and sandboxes in agreement, whatever died on the way.

The journal is the truth. A flow run is only the place where an attempt runs: one is started for
every job that is due, and ended when its job or its attempt is over. Everything is looked at again
and again, so a tick that is cut off is made up for by the next one.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from sqlalchemy.ext.asyncio import AsyncEngine

from flowforge.engines.sandboxes.sandbox import Provider
from flowforge.ledger.journal import events, jobs, orphans, sweeping
from flowforge.ledger.journal.orphans import GRACE_SECONDS, Due
from flowforge.rules.jobs.queues import queue_of

CANCEL_GRACE_SECONDS = 10.0
"""So long an attempt has to end by itself and keep its patch."""

LEFTOVER_GRACE_SECONDS = 30.0
LEFTOVER_SINCE_SECONDS = 3600.0
OVERDUE_PATIENCE_SECONDS = 300.0
LOOK_SECONDS = 4.0
RUN_KEY = "run:"
"""Begins the key of a job that a flow run submitted; the run's id follows."""

_LONGEST_PAUSE_SECONDS = 60.0

How = Literal["cancelling", "cancelled", "crashed"]

log = logging.getLogger("flowforge.jobs")


@dataclass(frozen=True)
class Run:
    """A flow run as far as jobs care."""

    id: str
    is_over: bool
    is_paused: bool = False
    """Whether it waits for a person, without a process."""


class Runs(Protocol):
    """Where flow runs are started and ended. Every method raises `Unavailable` or `Refused`."""

    async def start(self, job: str, key: str, queue: str) -> Run:
        """Start a run that works on a job; the same key is the same run."""
        ...

    async def look(self, ids: Iterable[str]) -> Mapping[str, Run]:
        """How runs stand, by their ids; those that do not exist are left out."""
        ...

    async def end(self, run_id: str, how: How, why: str) -> None:
        """Bring a run into a state, unless it is over or gone."""
        ...


@dataclass
class _Started:
    """The run that was started for a job, at one fence."""

    run: Run
    tries: int
    again_at: float | None = None
    """When another one is started, since this one ended without taking the job."""


class Steward:
    """Looks after all jobs of a ledger.

    Args:
        engine: The ledger.
        runs: Where flow runs are.
        grace: So many seconds after a start of PostgreSQL a missing lock means nothing.
    """

    def __init__(self, engine: AsyncEngine, runs: Runs, *, grace: float = GRACE_SECONDS) -> None:
        self._engine = engine
        self._runs = runs
        self._grace = grace
        self._started: dict[tuple[str, int], _Started] = {}
        self._looked_at = 0.0
        self._asked_to_end: set[str] = set()

    async def tick(self) -> None:
        """Do what is due now.

        Raises:
            Unavailable: The ledger or the flow runs could not be reached; the next tick goes on.
            Refused: They said no.
        """
        await self._requeue_orphans()
        await self._settle_waiting()
        await self._start_due()
        await self._end_unheard()

    async def tidy(self) -> None:
        """End the flow runs of attempts that are over; raises as `tick` does."""
        left = await sweeping.list_leftovers(
            self._engine, grace=LEFTOVER_GRACE_SECONDS, since=LEFTOVER_SINCE_SECONDS
        )
        standing = await self._runs.look([one.flow_run_id for one in left])
        for one in left:
            run = standing.get(one.flow_run_id)
            if run is None or run.is_over or (run.is_paused and one.state == "waiting"):
                continue
            how: How = "cancelled" if one.state == "cancelled" else "crashed"
            await self._runs.end(run.id, how, f"{one.job} goes on without it: {one.state}")

    async def _requeue_orphans(self) -> None:
        for orphan in await orphans.list_orphans(self._engine, grace=self._grace):
            if not await orphans.requeue(self._engine, orphan, grace=self._grace):
                continue
            log.warning("%s: %s (%s); it is queued again", orphan.job, orphan.why, orphan.worker)
            note = {"text": f"{orphan.why}; the job goes on from its last turn"}
            told = [("note", note), ("state", {"state": "queued", "reason": orphan.why})]
            await events.append(self._engine, orphan.job, told)
            if orphan.flow_run_id:
                # A run that looks alive would hold the place that the next one needs.
                await self._runs.end(orphan.flow_run_id, "crashed", orphan.why)

    async def _settle_waiting(self) -> None:
        await sweeping.wake_overdue(self._engine)
        await sweeping.wake_answered(self._engine)
        await sweeping.wake_let_in(self._engine)
        for one in await sweeping.list_hopeless(self._engine, patience=OVERDUE_PATIENCE_SECONDS):
            if await jobs.give_up(self._engine, one.job, one.state, one.reason):
                ended = {"state": one.state, "reason": one.reason}
                await events.append(self._engine, one.job, [("ended", ended)])

    async def _start_due(self) -> None:
        due = {(one.job, one.fence): one for one in await orphans.list_due(self._engine)}
        self._started = {which: one for which, one in self._started.items() if which in due}
        await self._adopt([one for which, one in due.items() if which not in self._started])
        await self._look_at_started()
        for which, one in due.items():
            started = self._started.get(which)
            if started is None:
                await self._start(one, 0)
            elif started.again_at is not None and time.monotonic() >= started.again_at:
                await self._start(one, started.tries)

    async def _adopt(self, new: Sequence[Due]) -> None:
        """Leave a job to the run that submitted it, or that is about to end its last attempt."""
        runs = {run_id: one for one in new if (run_id := _last_run(one)) is not None}
        found = await self._runs.look(runs) if runs else {}
        for run_id, run in found.items():
            one = runs[run_id]
            if run.is_paused:  # what it waited for came another way
                await self._runs.end(run_id, "cancelled", f"another run goes on with {one.job}")
            elif not run.is_over:
                self._started[one.job, one.fence] = _Started(run, tries=0)

    async def _look_at_started(self) -> None:
        if not self._started or time.monotonic() - self._looked_at < LOOK_SECONDS:
            return
        self._looked_at = time.monotonic()
        standing = await self._runs.look([one.run.id for one in self._started.values()])
        for one in self._started.values():
            run = standing.get(one.run.id)
            if (run is None or run.is_over) and one.again_at is None:
                pause = min(2.0**one.tries, _LONGEST_PAUSE_SECONDS) if one.tries else 0.0
                one.again_at = time.monotonic() + pause

    async def _start(self, due: Due, tries: int) -> None:
        key = f"{due.job}:{due.fence}" + (f":{tries}" if tries else "")
        run = await self._runs.start(due.job, key, queue_of(due.priority))
        # One that is over already was started before this steward was: another one follows.
        again_at = time.monotonic() if run.is_over else None
        self._started[due.job, due.fence] = _Started(run, tries + 1, again_at)

    async def _end_unheard(self) -> None:
        unheard = await sweeping.list_unheard(self._engine, grace=CANCEL_GRACE_SECONDS)
        for one in unheard:
            if one.flow_run_id not in self._asked_to_end:
                await self._runs.end(one.flow_run_id, "cancelling", f"cancelled by {one.by}")
        self._asked_to_end = {one.flow_run_id for one in unheard}


async def sweep_sandboxes(
    engine: AsyncEngine, provider: Provider, suspects: frozenset[str]
) -> frozenset[str]:
    """Remove the sandboxes of attempts that are over.

    One is removed when it was a suspect before: an attempt that has just ended removes its own.
    Sandboxes of jobs that are in no journal belong to others.

    Args:
        engine: The ledger.
        provider: Of the place that is swept.
        suspects: What the last call returned.

    Returns:
        The ids of those that should be gone by the next call.
    """
    seen = await provider.list_open()
    held = await sweeping.how_held(engine, [job for job, _, _ in seen]) if seen else {}
    found = set()
    for job, fence, sandbox_id in seen:
        one = held.get(job)
        if one is None or (one.is_live and one.fence == fence):
            continue
        if sandbox_id in suspects:
            log.warning("%s: removing the sandbox %s of attempt %d", job, sandbox_id, fence)
            await provider.remove(sandbox_id)
        else:
            found.add(sandbox_id)
    return frozenset(found)


def _last_run(due: Due) -> str | None:
    """The flow run that worked on a job last, or that submitted it and is yet to begin."""
    if due.fence == 0 and due.key is not None and due.key.startswith(RUN_KEY):
        return due.key.removeprefix(RUN_KEY)
    return due.flow_run_id
