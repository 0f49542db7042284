"""Agent jobs for programs that wait for answers."""

from __future__ import annotations

import builtins
import getpass
import time
from collections.abc import Iterator, Mapping, Sequence
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
    from flowforge.client.blocking import FlowForge


class Job:
    """One agent job, as it was when last asked."""

    def __init__(self, facts: JobSummary, flowforge: FlowForge) -> None:
        self.facts = facts
        self._flowforge = flowforge
        self._calls = JobCalls(flowforge.calls)

    def __repr__(self) -> str:
        return f"<Job {self.id} {self.state}>"

    @property
    def id(self) -> str:
        """By which it is found again."""
        return self.facts.id

    @property
    def state(self) -> State:
        """Its state when last asked."""
        return self.facts.state

    def refresh(self) -> JobDetails:
        """Look again, at all there is."""
        found = self._flowforge.carry_out(self._calls.get(self.id))
        self.facts = found
        return found

    def result(self, timeout: float | None = None, *, check: bool = False) -> Outcome:
        """Wait until it has ended, well or not.

        Args:
            timeout: Seconds to wait; without it, as long as it takes.
            check: Whether an end without success is an error.

        Raises:
            Unavailable: It goes on for longer, or the server was away for a minute.
            NotSucceeded: It did not succeed, and `check` was set.
        """
        outcome = self._flowforge.carry_out(self._calls.wait(self.id, timeout))
        self.refresh()
        if check and not outcome.succeeded:
            raise NotSucceeded(outcome)
        return outcome

    def events(self, after: int = 0) -> Iterator[Event]:
        """Every event after a number as it happens, until the job has ended.

        A connection that is cut is made again; no event is missed and none comes twice.

        Raises:
            Unavailable: The server was away for a minute.
            Refused: The job was deleted.
        """
        reader = self._calls.read_events(self.id, after)
        while not reader.is_closed:
            lost: Reply | Lost
            try:
                with self._flowforge.open_stream(reader.ask()) as response:
                    if response.status_code == httpx.codes.OK:
                        for line in response.iter_lines():
                            if (event := reader.feed(line)) is not None:
                                yield event
                        lost = Lost("the stream was cut")
                    else:
                        response.read()
                        lost = read_reply(response)
            except httpx.TransportError as error:
                lost = read_loss(error)
            if not reader.is_closed:
                time.sleep(reader.lose(lost))

    def cancel(self, by: str | None = None) -> None:
        """Ask that it ends; what it did until then is kept."""
        asked = self._calls.cancel(self.id, by or getpass.getuser())
        self.facts = self._flowforge.carry_out(asked)

    def patch(self) -> bytes:
        """What it changed, for `git apply`.

        Raises:
            Refused: It has not ended, or left no patch.
        """
        return self._flowforge.carry_out(self._calls.patch(self.id))

    def artifact(self, name: str) -> bytes:
        """One thing it left behind; `refresh().artifacts` lists them."""
        return self._flowforge.carry_out(self._calls.artifact(self.id, name))

    def transcript(self, after: int = 0) -> list[SpokenTurn]:
        """What was said, turn by turn, from the journal."""
        return self._flowforge.carry_out(self._calls.transcript(self.id, after))

    def cost(self) -> Cost:
        """What it cost so far."""
        return self._flowforge.carry_out(self._calls.cost(self.id))

    def fork(self, turn: int, prompt: str, *, key: str | None = None) -> Job:
        """A new job that takes over all up to a turn, and goes on with another prompt."""
        asked = self._calls.fork(self.id, turn, prompt, key)
        return Job(self._flowforge.carry_out(asked), self._flowforge)

    def approve(
        self, turn: int, tool_use_id: str, *, granted: bool = True, by: str | None = None
    ) -> Approval:
        """Answer a command that waits for a person."""
        who = by or getpass.getuser()
        asked = self._calls.approve(self.id, turn, tool_use_id, granted, who)
        return self._flowforge.carry_out(asked)

    def delete(self) -> None:
        """Delete it with all its data; it must have ended."""
        self._flowforge.carry_out(self._calls.delete(self.id))


class Jobs:
    """The agent jobs of a FlowForge server."""

    def __init__(self, flowforge: FlowForge) -> None:
        self._flowforge = flowforge
        self._calls = JobCalls(flowforge.calls)
        self._breakers = BreakerCalls(flowforge.calls)

    def submit(self, wish: Wish, *, key: str | None = None, **fields: Any) -> Job:
        """Submit a job.

        Args:
            wish: A `JobSpec`, its fields, or only the prompt.
            key: Makes it safe to ask twice: the same key and spec are the same job.
            fields: Fields of the spec, such as `model` or `limits`.

        Raises:
            Refused: The spec cannot be as it is, or the key belongs to another job.
            Unavailable: The server did not answer for a minute.
        """
        asked = self._calls.submit(wish, key, fields)
        return Job(self._flowforge.carry_out(asked), self._flowforge)

    def get(self, job: str) -> Job:
        """A job that was submitted earlier, or by somebody else."""
        return Job(self._flowforge.carry_out(self._calls.get(job)), self._flowforge)

    def list(
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
        return self._flowforge.carry_out(asked)

    def breakers(self) -> builtins.list[Breaker]:
        """Accounts that are not used for now, with how many jobs wait for each."""
        return self._flowforge.carry_out(self._breakers.list_breakers())

    def close_breaker(self, account: str, *, by: str | None = None) -> ClosedBreaker:
        """Use an account again after its key or its limit was put right; its jobs go on."""
        asked = self._breakers.close(account, by or getpass.getuser())
        return self._flowforge.carry_out(asked)
