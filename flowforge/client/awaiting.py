"""The client for programs that await; it only carries out what `calls` asks for."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Self, TypeVar

import httpx
from pydantic import JsonValue

from flowforge.client import agreeing
from flowforge.client.address import Environment, find_environment
from flowforge.client.answers import CopyWithProofs, PoolStatus, Readiness, Status
from flowforge.client.awaiting_jobs import AsyncJobs
from flowforge.client.calls import Calls
from flowforge.client.exchange import PATIENCE_SECONDS, Exchange, Lost, Pause, Reply, Request
from flowforge.client.runs import RunFacts, Step
from flowforge.client.wire import OnLook, ToldRun, arguments, options, read_loss, read_reply
from flowforge.rules.backups import Copy, Operation

T = TypeVar("T")


class AsyncRun(ToldRun):
    """One run of a deployment; the same as `Run`, awaited."""

    def __init__(self, facts: RunFacts, flowforge: AsyncFlowForge) -> None:
        super().__init__(facts)
        self._flowforge = flowforge

    async def refresh(self) -> Self:
        """Look again."""
        self.facts = await self._flowforge.carry_out(self._flowforge.calls.read_run(self.id))
        return self

    async def steps(self) -> list[Step]:
        """The run's steps so far, in the order they started."""
        return await self._flowforge.carry_out(self._flowforge.calls.steps(self.id))

    async def wait(self, timeout: float | None = None, on_look: OnLook | None = None) -> Self:
        """Wait until the run has ended, well or not. See `Run.wait`."""
        calls = self._flowforge.calls
        self.facts = await self._flowforge.carry_out(calls.wait(self.facts, timeout, on_look))
        return self

    async def result(self, timeout: float | None = None) -> Operation:
        """Wait, then return the run's evidence. See `Run.result`."""
        await self.wait(timeout)
        return await self._flowforge.carry_out(self._flowforge.calls.result(self.facts))


class AsyncFlowForge:
    """A FlowForge server, for programs that await; the same as `FlowForge`."""

    def __init__(
        self,
        api_url: str | None = None,
        profile: str | None = None,
        *,
        environment: Environment | None = None,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        self.calls = Calls(environment or find_environment(api_url, profile), patience_seconds)
        self._http = httpx.AsyncClient(**options(self.calls.environment))
        self.jobs = AsyncJobs(self)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Give the connections back."""
        await self._http.aclose()

    async def run(
        self, deployment: str, /, *, idempotency_key: str | None = None, **parameters: object
    ) -> AsyncRun:
        """Start a deployment. See `FlowForge.run`."""
        asked = self.calls.submit(deployment, parameters, idempotency_key)
        return AsyncRun(await self.carry_out(asked), self)

    async def find_run(self, flow_run_id: str) -> AsyncRun:
        """A run that was started earlier, or by somebody else."""
        return AsyncRun(await self.carry_out(self.calls.read_run(flow_run_id)), self)

    async def approve(
        self,
        flow_run_id: str,
        *,
        plan_hash: str,
        approver: str,
        agree: bool = True,
        note: str = "",
    ) -> AsyncRun:
        """See `FlowForge.approve`."""
        exchange = agreeing.answer(
            self.calls,
            flow_run_id,
            agree=agree,
            plan_hash=plan_hash,
            approver=approver,
            note=note,
        )
        return AsyncRun(await self.carry_out(exchange), self)

    async def status(self) -> Status:
        """How the platform is, and how well each database is protected."""
        return await self.carry_out(self.calls.status())

    async def readiness(self) -> Readiness:
        """Whether the server takes writes."""
        return await self.carry_out(self.calls.readiness())

    async def pools(self) -> list[PoolStatus]:
        """FlowForge's work pools, and how many workers each has."""
        return await self.carry_out(self.calls.pools())

    async def copies(self, server: str | None = None, database: str | None = None) -> list[Copy]:
        """The copies that exist, newest first."""
        return await self.carry_out(self.calls.copies(server, database))

    async def copy(self, server: str, database: str, name: str) -> CopyWithProofs:
        """One copy and its proofs."""
        return await self.carry_out(self.calls.copy(server, database, name))

    async def operations(self, operation: str | None = None, limit: int = 50) -> list[Operation]:
        """The last operations and their evidence, newest first."""
        return await self.carry_out(self.calls.operations(operation, limit))

    async def restore_plan(
        self, server: str, database: str | None = None, copy: str = "latest", **target: str | None
    ) -> dict[str, JsonValue]:
        """What a restore would do; touches nothing. See `FlowForge.restore_plan`."""
        return await self.carry_out(self.calls.restore_plan(server, database, copy, target))

    async def carry_out(self, exchange: Exchange[T]) -> T:
        """Do what an exchange asks for until it returns."""
        answer: Reply | Lost | None = None
        try:
            while True:
                asked = exchange.send(answer)
                if isinstance(asked, Pause):
                    await asyncio.sleep(asked.seconds)
                    answer = None
                else:
                    answer = await self._answer(asked)
        except StopIteration as end:
            value: T = end.value
            return value

    @contextlib.asynccontextmanager
    async def open_stream(self, asked: Request) -> AsyncIterator[httpx.Response]:
        """Ask for an answer that comes bit by bit, while the block lasts."""
        async with self._http.stream(**arguments(asked)) as response:
            yield response

    async def _answer(self, asked: Request) -> Reply | Lost:
        try:
            return read_reply(await self._http.request(**arguments(asked)))
        except httpx.TransportError as error:
            return read_loss(error)
