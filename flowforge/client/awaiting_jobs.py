"""Agent jobs for programs that await; the same as `blocking_jobs`, awaited."""

from __future__ import annotations

import asyncio
import builtins
import getpass
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import httpx

from flowforge.client.breaker_calls import BreakerCalls, ClosedBreaker
from flowforge.client.exchange import Lost, Reply
from flowforge.client.job_calls import JobCalls
from flowforge.client.job_facts import JobDetails, NotSucceeded, Outcome, SpokenTurn, Wish
from flowforge.client.wire import read_loss, read_reply
from flowforge.rules.jobs.costs import Cost
from flowforge.rules.jobs.records import Approval, Breaker, Event, JobSummary
from flowforge.rules.jobs.states import State

if TYPE_CHECKING:
    from flowforge.client.awaiting import AsyncFlowForge


class AsyncJob:
    """One agent job, as it was when last asked."""

    def __init__(self, facts: JobSummary, flowforge: AsyncFlowForge) -> None:
        self.facts = facts
        self._flowforge = flowforge
        self._calls = JobCalls(flowforge.calls)

    def __repr__(self) -> str:
        return f"<AsyncJob {self.id} {self.state}>"

    @property
    def id(self) -> str:
        """By which it is found again."""
        return self.facts.id

    @property
    def state(self) -> State:
        """Its state when last asked."""
        return self.facts.state

    async def refresh(self) -> JobDetails:
        """Look again, at all there is."""
        found = await self._flowforge.carry_out(self._calls.get(self.id))
        self.facts = found
        return found

    async def result(self, timeout: float | None = None, *, check: bool = False) -> Outcome:
        """Wait until it has ended, well or not. See `Job.result`."""
        outcome = await self._flowforge.carry_out(self._calls.wait(self.id, timeout))
        await self.refresh()
        if check and not outcome.succeeded:
            raise NotSucceeded(outcome)
        return outcome

    async def events(self, after: int = 0) -> AsyncIterator[Event]:
        """Every event after a number as it happens, until the job has ended. See `Job.events`."""
        reader = self._calls.read_events(self.id, after)
        while not reader.is_closed:
            lost: Reply | Lost
            try:
                async with self._flowforge.open_stream(reader.ask()) as response:
                    if response.status_code == httpx.codes.OK:
                        async for line in response.aiter_lines():
                            if (event := reader.feed(line)) is not None:
                                yield event
                        lost = Lost("the stream was cut")
                    else:
                        await response.aread()
                        lost = read_reply(response)
            except httpx.TransportError as error:
                lost = read_loss(error)
            if not reader.is_closed:
                await asyncio.sleep(reader.lose(lost))

    async def cancel(self, by: str | None = None) -> None:
        """Ask that it ends; what it did until then is kept."""
        asked = self._calls.cancel(self.id, by or getpass.getuser())
        self.facts = await self._flowforge.carry_out(asked)

    async def patch(self) -> bytes:
        """What it changed, for `git apply`. See `Job.patch`."""
        return await self._flowforge.carry_out(self._calls.patch(self.id))

    async def artifact(self, name: str) -> bytes:
        """One thing it left behind; `refresh().artifacts` lists them."""
        return await self._flowforge.carry_out(self._calls.artifact(self.id, name))

    async def transcript(self, after: int = 0) -> list[SpokenTurn]:
        """What was said, turn by turn, from the journal."""
        return await self._flowforge.carry_out(self._calls.transcript(self.id, after))

    async def cost(self) -> Cost:
        """What it cost so far."""
        return await self._flowforge.carry_out(self._calls.cost(self.id))

    async def fork(self, turn: int, prompt: str, *, key: str | None = None) -> AsyncJob:
        """A new job that takes over all up to a turn, and goes on with another prompt."""
        asked = self._calls.fork(self.id, turn, prompt, key)
        return AsyncJob(await self._flowforge.carry_out(asked), self._flowforge)

    async def approve(
        self, turn: int, tool_use_id: str, *, granted: bool = True, by: str | None = None
    ) -> Approval:
        """Answer a command that waits for a person."""
        who = by or getpass.getuser()
        asked = self._calls.approve(self.id, turn, tool_use_id, granted, who)
        return await self._flowforge.carry_out(asked)

    async def delete(self) -> None:
        """Delete it with all its data; it must have ended."""
        await self._flowforge.carry_out(self._calls.delete(self.id))


class AsyncJobs:
    """The agent jobs of a FlowForge server."""

    def __init__(self, flowforge: AsyncFlowForge) -> None:
        self._flowforge = flowforge
        self._calls = JobCalls(flowforge.calls)
        self._breakers = BreakerCalls(flowforge.calls)

    async def submit(self, wish: Wish, *, key: str | None = None, **fields: Any) -> AsyncJob:
        """Submit a job. See `Jobs.submit`."""
        asked = self._calls.submit(wish, key, fields)
        return AsyncJob(await self._flowforge.carry_out(asked), self._flowforge)

    async def get(self, job: str) -> AsyncJob:
        """A job that was submitted earlier, or by somebody else."""
        return AsyncJob(await self._flowforge.carry_out(self._calls.get(job)), self._flowforge)

    async def list(
        self,
        *,
        states: Sequence[State] = (),
        labels: Mapping[str, str] | None = None,
        tenant: str | None = None,
        limit: int = 50,
        before: str | None = None,
    ) -> list[JobSummary]:
        """Jobs, newest first; `before` is the last id of the page before."""
        asked = self._calls.list_jobs(states, labels or {}, tenant, limit, before)
        return await self._flowforge.carry_out(asked)

    async def breakers(self) -> builtins.list[Breaker]:
        """Accounts that are not used for now. See `Jobs.breakers`."""
        return await self._flowforge.carry_out(self._breakers.list_breakers())

    async def close_breaker(self, account: str, *, by: str | None = None) -> ClosedBreaker:
        """Use an account again. See `Jobs.close_breaker`."""
        asked = self._breakers.close(account, by or getpass.getuser())
        return await self._flowforge.carry_out(asked)
