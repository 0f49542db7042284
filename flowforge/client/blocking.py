"""The client for programs that wait for answers; it only carries out what `calls` asks for."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Self, TypeVar

import httpx
from pydantic import JsonValue

from flowforge.client import agreeing
from flowforge.client.address import Environment, find_environment
from flowforge.client.answers import CopyWithProofs, PoolStatus, Readiness, Status
from flowforge.client.blocking_jobs import Jobs
from flowforge.client.calls import Calls
from flowforge.client.exchange import PATIENCE_SECONDS, Exchange, Lost, Pause, Reply, Request
from flowforge.client.runs import RunFacts, Step
from flowforge.client.wire import OnLook, ToldRun, arguments, options, read_loss, read_reply
from flowforge.rules.backups import Copy, Operation

T = TypeVar("T")


class Run(ToldRun):
    """One run of a deployment."""

    def __init__(self, facts: RunFacts, flowforge: FlowForge) -> None:
        super().__init__(facts)
        self._flowforge = flowforge

    def refresh(self) -> Self:
        """Look again."""
        self.facts = self._flowforge.carry_out(self._flowforge.calls.read_run(self.id))
        return self

    def steps(self) -> list[Step]:
        """The run's steps so far, in the order they started."""
        return self._flowforge.carry_out(self._flowforge.calls.steps(self.id))

    def wait(self, timeout: float | None = None, on_look: OnLook | None = None) -> Self:
        """Wait until the run has ended, well or not.

        Args:
            timeout: Seconds to wait; without it, as long as it takes.
            on_look: Called with the run and its steps at every look.

        Raises:
            Unavailable: It goes on for longer, or the server was away for a minute.
        """
        calls = self._flowforge.calls
        self.facts = self._flowforge.carry_out(calls.wait(self.facts, timeout, on_look))
        return self

    def result(self, timeout: float | None = None) -> Operation:
        """Wait, then return the run's evidence.

        Raises:
            Unavailable: The run failed and may be repeated, or it goes on for longer.
            Refused: The run refused; nothing was touched.
            Damaged: The run left something that a person has to look at.
        """
        self.wait(timeout)
        return self._flowforge.carry_out(self._flowforge.calls.result(self.facts))


class FlowForge:
    """A FlowForge server, for programs that wait for answers.

    Args:
        api_url: Its API address; by default found as `find_environment` describes.
        profile: A Prefect profile that names another environment.
        environment: The result of `find_environment`, instead of the two before.
        patience_seconds: How long a request is repeated while the server is away or busy.
    """

    def __init__(
        self,
        api_url: str | None = None,
        profile: str | None = None,
        *,
        environment: Environment | None = None,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        self.calls = Calls(environment or find_environment(api_url, profile), patience_seconds)
        self._http = httpx.Client(**options(self.calls.environment))
        self.jobs = Jobs(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the connections back."""
        self._http.close()

    def run(
        self, deployment: str, /, *, idempotency_key: str | None = None, **parameters: object
    ) -> Run:
        """Start a deployment, for example `backup-postgres/database-backup`.

        Args:
            deployment: `flow/deployment`.
            idempotency_key: Calls with the same key start one run; by default each starts its own.
            parameters: The flow's parameters.

        Raises:
            Refused: No such deployment or parameter, or a parameter holds a password.
            Unavailable: The server did not answer in time.
        """
        asked = self.calls.submit(deployment, parameters, idempotency_key)
        return Run(self.carry_out(asked), self)

    def find_run(self, flow_run_id: str) -> Run:
        """A run that was started earlier, or by somebody else."""
        return Run(self.carry_out(self.calls.read_run(flow_run_id)), self)

    def approve(
        self,
        flow_run_id: str,
        *,
        plan_hash: str,
        approver: str,
        agree: bool = True,
        note: str = "",
    ) -> Run:
        """Answer a run that waits for a person; it then goes on from its first line.

        Raises:
            Refused: The run waits for nobody, or does not take the answer.
        """
        exchange = agreeing.answer(
            self.calls,
            flow_run_id,
            agree=agree,
            plan_hash=plan_hash,
            approver=approver,
            note=note,
        )
        return Run(self.carry_out(exchange), self)

    def status(self) -> Status:
        """How the platform is, and how well each database is protected."""
        return self.carry_out(self.calls.status())

    def readiness(self) -> Readiness:
        """Whether the server takes writes."""
        return self.carry_out(self.calls.readiness())

    def pools(self) -> list[PoolStatus]:
        """FlowForge's work pools, and how many workers each has."""
        return self.carry_out(self.calls.pools())

    def copies(self, server: str | None = None, database: str | None = None) -> list[Copy]:
        """The copies that exist, newest first."""
        return self.carry_out(self.calls.copies(server, database))

    def copy(self, server: str, database: str, name: str) -> CopyWithProofs:
        """One copy and its proofs."""
        return self.carry_out(self.calls.copy(server, database, name))

    def operations(self, operation: str | None = None, limit: int = 50) -> list[Operation]:
        """The last operations and their evidence, newest first."""
        return self.carry_out(self.calls.operations(operation, limit))

    def restore_plan(
        self, server: str, database: str | None = None, copy: str = "latest", **target: str | None
    ) -> dict[str, JsonValue]:
        """What a restore would do; touches nothing.

        Args:
            server: The server the copy was taken from.
            database: The database the copy was taken from.
            copy: Name of the copy, or `latest`.
            target: `target_server`, `target_database` and `store` where they differ.

        Returns:
            `plan` and the `plan_hash` under which it may be applied.
        """
        return self.carry_out(self.calls.restore_plan(server, database, copy, target))

    def carry_out(self, exchange: Exchange[T]) -> T:
        """Do what an exchange asks for until it returns."""
        answer: Reply | Lost | None = None
        try:
            while True:
                asked = exchange.send(answer)
                if isinstance(asked, Pause):
                    time.sleep(asked.seconds)
                    answer = None
                else:
                    answer = self._answer(asked)
        except StopIteration as end:
            value: T = end.value
            return value

    @contextlib.contextmanager
    def open_stream(self, asked: Request) -> Iterator[httpx.Response]:
        """Ask for an answer that comes bit by bit, while the block lasts."""
        with self._http.stream(**arguments(asked)) as response:
            yield response

    def _answer(self, asked: Request) -> Reply | Lost:
        try:
            return read_reply(self._http.request(**arguments(asked)))
        except httpx.TransportError as error:
            return read_loss(error)
