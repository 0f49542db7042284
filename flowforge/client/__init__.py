"""Start operations and read their evidence from any Python program.

    from flowforge import client

    run = client.run("backup-postgres/database-backup", server="shop")
    print(run.url, run.result().evidence)

    job = client.submit("Make the tests pass.", workspace={"kind": "git", "url": "https://..."})
    print(job.result().state, job.patch().decode())

`flowforge.client.jobs` has more on agent jobs.

`FlowForge` and `AsyncFlowForge` are one client in two tempers; the functions of this module use
the default environment. Everything goes over HTTP: the client never opens a database.
"""

from __future__ import annotations

from pydantic import JsonValue

from flowforge.client.address import Environment, find_environment
from flowforge.client.answers import (
    CopyWithProofs,
    PoolStatus,
    Readiness,
    Status,
)
from flowforge.client.awaiting import AsyncFlowForge, AsyncRun
from flowforge.client.awaiting_jobs import AsyncJob, AsyncJobs
from flowforge.client.blocking import FlowForge, Run
from flowforge.client.blocking_jobs import Job, Jobs
from flowforge.client.breaker_calls import ClosedBreaker
from flowforge.client.calls import RESTORE
from flowforge.client.default import default
from flowforge.client.job_facts import JobDetails, NotSucceeded, Outcome, SpokenTurn
from flowforge.client.jobs import submit
from flowforge.client.runs import RunFacts, Step
from flowforge.rules.backups import Copy, Operation, Proof
from flowforge.rules.jobs.records import Breaker
from flowforge.rules.standing import DatabaseStanding

__all__ = [
    "RESTORE",
    "AsyncFlowForge",
    "AsyncJob",
    "AsyncJobs",
    "AsyncRun",
    "Breaker",
    "ClosedBreaker",
    "Copy",
    "CopyWithProofs",
    "DatabaseStanding",
    "Environment",
    "FlowForge",
    "Job",
    "JobDetails",
    "Jobs",
    "NotSucceeded",
    "Operation",
    "Outcome",
    "PoolStatus",
    "Proof",
    "Readiness",
    "Run",
    "RunFacts",
    "SpokenTurn",
    "Status",
    "Step",
    "copies",
    "copy",
    "find_environment",
    "operations",
    "restore_plan",
    "run",
    "status",
    "submit",
]


def run(deployment: str, /, *, idempotency_key: str | None = None, **parameters: object) -> Run:
    """Start a deployment, for example `backup-postgres/database-backup`.

    Args:
        deployment: `flow/deployment`.
        idempotency_key: Calls with the same key start one run; by default each call starts its own.
        parameters: The flow's parameters.

    Raises:
        Refused: No such deployment or parameter, or a parameter holds a password.
        Unavailable: The server did not answer for a minute.
    """
    return default().run(deployment, idempotency_key=idempotency_key, **parameters)


def status() -> Status:
    """How the platform is, and how well each database is protected."""
    return default().status()


def copies(server: str | None = None, database: str | None = None) -> list[Copy]:
    """The copies that exist, newest first."""
    return default().copies(server, database)


def copy(server: str, database: str, name: str) -> CopyWithProofs:
    """One copy and its proofs."""
    return default().copy(server, database, name)


def operations(operation: str | None = None, limit: int = 50) -> list[Operation]:
    """The last operations and their evidence, newest first."""
    return default().operations(operation, limit)


def restore_plan(
    server: str,
    database: str | None = None,
    copy: str = "latest",
    *,
    target_server: str | None = None,
    target_database: str | None = None,
    store: str | None = None,
) -> dict[str, JsonValue]:
    """What a restore would do; touches nothing.

    Returns:
        `plan` and the `plan_hash` under which it may be applied.
    """
    return default().restore_plan(
        server,
        database,
        copy,
        target_server=target_server,
        target_database=target_database,
        store=store,
    )
