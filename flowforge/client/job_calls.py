"""What can be asked about agent jobs, written once for the blocking and the awaiting client."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote

import httpx
from pydantic import JsonValue
from pydantic_core import to_jsonable_python

from flowforge.client.answers import read_list, read_value
from flowforge.client.calls import Calls
from flowforge.client.exchange import (
    RETRIED,
    Exchange,
    Query,
    Reply,
    Request,
    ask,
    call,
    explain,
    not_flowforge,
)
from flowforge.client.job_events import EventReader
from flowforge.client.job_facts import JobDetails, Outcome, SpokenTurn, Wish, outcome_of
from flowforge.errors import Unavailable
from flowforge.rules.jobs.costs import Cost
from flowforge.rules.jobs.records import Approval, JobSummary
from flowforge.rules.jobs.spec import JobSpec
from flowforge.rules.jobs.states import State, is_end

_LOOK_SECONDS = 20.0


@dataclass(frozen=True)
class JobCalls:
    """Every question about jobs, as a generator of requests."""

    calls: Calls

    def submit(
        self, wish: Wish, key: str | None, fields: Mapping[str, object]
    ) -> Exchange[JobSummary]:
        """Submit a job once, however often the request has to be repeated."""
        headers = {"Idempotency-Key": key or str(uuid.uuid4())}
        body = yield from self._call("POST", "", spell(wish, fields), headers=headers)
        return read_value(JobSummary, body.get("job"))

    def list_jobs(
        self,
        states: Sequence[State],
        labels: Mapping[str, str],
        tenant: str | None,
        limit: int,
        before: str | None,
    ) -> Exchange[list[JobSummary]]:
        """One page of jobs, newest first."""
        query: dict[str, str | list[str]] = {"limit": str(limit), "state": list(states)}
        query["label"] = [f"{name}={value}" for name, value in labels.items()]
        query |= {"tenant": tenant} if tenant else {}
        query |= {"before": before} if before else {}
        return read_list(JobSummary, (yield from self._call("GET", "", query=query)), "jobs")

    def get(self, job: str, wait_seconds: float = 0.0) -> Exchange[JobDetails]:
        """Look at a job, at the latest after so many seconds, at once when it has ended."""
        query = {"wait_seconds": f"{wait_seconds:.3f}"} if wait_seconds else {}
        body = yield from self._call("GET", _part(job), query=query)
        return read_value(JobDetails, body.get("job"))

    def wait(self, job: str, timeout_seconds: float | None) -> Exchange[Outcome]:
        """Wait until a job has ended, well or not.

        Raises:
            Unavailable: It goes on for longer, or the server was away for too long.
        """
        deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        while True:
            left = _LOOK_SECONDS if deadline is None else deadline - time.monotonic()
            found = yield from self.get(job, min(_LOOK_SECONDS, max(0.0, left)))
            if is_end(found.state):
                return outcome_of(found)
            if left <= 0:
                raise Unavailable(
                    f"{job} is still {found.state} after {timeout_seconds:g} s.",
                    hint=f"It goes on without you; follow it with `flowforge job tail {job}`.",
                )

    def read_events(self, job: str, after: int) -> EventReader:
        """A reader of the events after a number."""
        request = Request("GET", self._url(f"{_part(job)}/events"))
        return EventReader(request, after, self.calls.patience_seconds)

    def cancel(self, job: str, by: str) -> Exchange[JobSummary]:
        """Ask that a job ends."""
        body = yield from self._call("POST", f"{_part(job)}/cancel", {"by": by})
        return read_value(JobSummary, body.get("job"))

    def patch(self, job: str) -> Exchange[bytes]:
        """The patch of an ended job, byte for byte."""
        return (yield from self._download(f"{_part(job)}/patch"))

    def artifact(self, job: str, name: str) -> Exchange[bytes]:
        """One thing a job left behind."""
        return (yield from self._download(f"{_part(job)}/artifacts/{_part(name)}"))

    def cost(self, job: str) -> Exchange[Cost]:
        """What a job cost so far, turn by turn."""
        body = yield from self._call("GET", f"{_part(job)}/cost")
        return read_value(Cost, body.get("cost"))

    def transcript(self, job: str, after: int) -> Exchange[list[SpokenTurn]]:
        """The turns of a job after a number."""
        query = {"after": str(after)}
        body = yield from self._call("GET", f"{_part(job)}/transcript", query=query)
        return read_list(SpokenTurn, body, "turns")

    def fork(self, job: str, turn: int, prompt: str, key: str | None) -> Exchange[JobSummary]:
        """A new job that goes on from a turn of another one."""
        headers = {"Idempotency-Key": key or str(uuid.uuid4())}
        asked: JsonValue = {"turn": turn, "prompt": prompt}
        body = yield from self._call("POST", f"{_part(job)}/fork", asked, headers=headers)
        return read_value(JobSummary, body.get("job"))

    def approve(
        self, job: str, turn: int, tool_use_id: str, granted: bool, by: str
    ) -> Exchange[Approval]:
        """Answer a command that waits for a person."""
        asked: JsonValue = {
            "turn": turn,
            "tool_use_id": tool_use_id,
            "granted": granted,
            "by": by,
        }
        body = yield from self._call("POST", f"{_part(job)}/approve", asked)
        return read_value(Approval, body.get("approval"))

    def delete(self, job: str) -> Exchange[None]:
        """Delete an ended job; one that a lost answer had deleted already is fine."""
        request = Request("DELETE", self._url(_part(job)))
        first = yield request
        was_lost = not isinstance(first, Reply) or first.status in RETRIED
        reply = (yield from ask(request, self.calls.patience_seconds)) if was_lost else first
        assert isinstance(reply, Reply)
        if not reply.is_ok and not (was_lost and reply.status == httpx.codes.NOT_FOUND):
            raise explain(reply, request)

    def _call(
        self,
        method: str,
        path: str,
        body: JsonValue = None,
        *,
        query: Query | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Exchange[dict[str, JsonValue]]:
        request = Request(method, self._url(path), query or {}, body, headers or {})
        told = yield from call(request, self.calls.patience_seconds)
        if not isinstance(told, dict):
            raise not_flowforge(request)
        return told

    def _download(self, path: str) -> Exchange[bytes]:
        request = Request("GET", self._url(path))
        reply = yield from ask(request, self.calls.patience_seconds)
        if not reply.is_ok:
            raise explain(reply, request)
        return reply.content

    def _url(self, path: str) -> str:
        return f"{self.calls.environment.own_url}/jobs/{path}".rstrip("/")


def spell(wish: Wish, fields: Mapping[str, object]) -> JsonValue:
    """A spec as it is sent; fields given beside it win."""
    if isinstance(wish, JobSpec):
        given: Mapping[str, object] = wish.model_dump(mode="json")
    else:
        given = {"prompt": wish} if isinstance(wish, str) else wish
    body: JsonValue = to_jsonable_python({**given, **fields})
    return body


def _part(text: str) -> str:
    return quote(text, safe="")
