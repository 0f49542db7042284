"""Agent jobs of the default environment.

from flowforge.client import jobs

job = jobs.submit("Make the tests pass.", workspace={"kind": "git", "url": "https://..."})
for event in job.events():
    print(event.kind, event.data)
print(job.result().state, job.patch().decode())
"""

from __future__ import annotations

import builtins
from collections.abc import Mapping, Sequence
from typing import Any

from flowforge.client.blocking_jobs import Job
from flowforge.client.breaker_calls import ClosedBreaker
from flowforge.client.default import default
from flowforge.client.job_facts import Wish
from flowforge.rules.jobs.records import Breaker, JobSummary
from flowforge.rules.jobs.states import State


def submit(wish: Wish, *, key: str | None = None, **fields: Any) -> Job:
    """Submit a job: a `JobSpec`, its fields, or only the prompt. See `Jobs.submit`."""
    return default().jobs.submit(wish, key=key, **fields)


def get(job: str) -> Job:
    """A job that was submitted earlier, or by somebody else."""
    return default().jobs.get(job)


def list(
    *,
    states: Sequence[State] = (),
    labels: Mapping[str, str] | None = None,
    tenant: str | None = None,
    limit: int = 50,
    before: str | None = None,
) -> builtins.list[JobSummary]:
    """Jobs, newest first; `before` is the last id of the page before."""
    return default().jobs.list(
        states=states, labels=labels, tenant=tenant, limit=limit, before=before
    )


def breakers() -> builtins.list[Breaker]:
    """Accounts that are not used for now, with how many jobs wait for each."""
    return default().jobs.breakers()


def close_breaker(account: str, *, by: str | None = None) -> ClosedBreaker:
    """Use an account again after its key or its limit was put right; its jobs go on."""
    return default().jobs.close_breaker(account, by=by)
