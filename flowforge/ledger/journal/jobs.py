"""Jobs as a whole: asked for, looked at, cancelled, deleted."""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from flowforge.errors import Refused
from flowforge.ledger.journal import artifacts
from flowforge.ledger.journal.connection import Row, fetch, run, transaction
from flowforge.ledger.journal.fragments import CALL_WORKER, TELL, TOKENS
from flowforge.ledger.journal.text import storable_json
from flowforge.rules.jobs import batches, states
from flowforge.rules.jobs.prices import Usage
from flowforge.rules.jobs.records import Job, JobSummary, Money
from flowforge.rules.jobs.spec import JobSpec

SCHEMA_VERSION = 1
"""Of what turns and specs mean. A journal with a higher number is refused, never guessed at."""

_SUMMARY = f"""id, tenant, key, model, state, reason, priority, labels, fence, worker, lease_until,
  not_before, cancel_requested_at, cancel_requested_by, limit_usd, cost_usd, reserved_usd,
  unknown_usd, {", ".join(TOKENS)}, rehearsal, turns, events, tree, forked_from, forked_turn,
  callback, created_at, started_at, ended_at, wall_seconds,
  (SELECT CAST(coalesce(sum(extract(epoch FROM coalesce(a.ended_at, clock_timestamp())
                                               - a.started_at)), 0) AS double precision)
     FROM flowforge.attempts a WHERE a.job = flowforge.jobs.id) AS worked_seconds"""

_INSERT = sa.text(f"""
INSERT INTO flowforge.jobs (id, tenant, key, spec, spec_hash, schema_version, model, labels,
                            priority, state, limit_usd, wall_seconds, deadline, callback,
                            not_before, forked_from, forked_turn)
VALUES (:id, :tenant, :key, :spec, :spec_hash, :schema_version, :model, CAST(:labels AS jsonb),
        :priority, 'queued', :limit_usd, :wall_seconds, :deadline, :callback, :not_before,
        :forked_from, :forked_turn)
ON CONFLICT ON CONSTRAINT jobs_by_key DO NOTHING RETURNING {TELL.format(job="id")}
""")

_SAME_KEY = sa.text("""
SELECT id, spec_hash FROM flowforge.jobs WHERE tenant = :tenant AND key = :key
""")

_BY_KEY = sa.text("SELECT id FROM flowforge.jobs WHERE key = :key ORDER BY id DESC LIMIT 1")

_GET = sa.text(f"""
SELECT {_SUMMARY}, spec, result, schema_version FROM flowforge.jobs WHERE id = :job
""")

_LOOK = sa.text(f"SELECT {_SUMMARY} FROM flowforge.jobs WHERE id = :job")

_LIST = sa.text(f"""
SELECT {_SUMMARY} FROM flowforge.jobs
 WHERE (CAST(:tenant AS text) IS NULL OR tenant = :tenant)
   AND (CAST(:states AS text[]) IS NULL OR state = ANY(:states))
   AND labels @> CAST(:labels AS jsonb)
   AND (CAST(:before AS text) IS NULL OR id < :before)
 ORDER BY id DESC LIMIT :limit
""")

_CANCEL = sa.text("""
UPDATE flowforge.jobs
   SET cancel_requested_at = coalesce(cancel_requested_at, now()),
       cancel_requested_by = coalesce(cancel_requested_by, :by),
       not_before = CASE WHEN state = 'waiting' THEN now() ELSE not_before END
 WHERE id = :job AND state <> ALL(:ends)
""")

_GIVE_UP = sa.text(f"""
UPDATE flowforge.jobs
   SET state = :state, reason = :reason, not_before = NULL, ended_at = now(),
       callback = CASE WHEN callback = 'wanted' THEN 'due' ELSE callback END, callback_at = now()
 WHERE id = :job AND state IN ('queued', 'waiting') AND state = ANY(:before)
RETURNING {TELL.format(job="id")}
""")

_CALL = sa.text(f"""
SELECT {TELL.format(job="CAST(:job AS text)")}, {CALL_WORKER.format(job="CAST(:job AS text)")}
""")

_DELETE = sa.text("""
DELETE FROM flowforge.jobs WHERE id = :job AND state = ANY(:ends) RETURNING id
""")


class NoSuchJob(Refused):
    """No job has this id; it may have been deleted."""


def new_id() -> str:
    """A new job's id. Ids sort by the moment they were made, to the millisecond."""
    return f"job_{time.time_ns() // 1_000_000:012x}{secrets.token_hex(10)}"


def hash_spec(spec: JobSpec) -> str:
    """The same for two specs that ask for the same."""
    canonical = json.dumps(spec.model_dump(mode="json"), sort_keys=True)
    return hashlib.sha256(canonical.encode()).hexdigest()


async def submit(
    engine: AsyncEngine,
    spec: JobSpec,
    *,
    key: str | None = None,
    forked: tuple[str, int] | None = None,
) -> tuple[str, bool]:
    """Enter a job in the queue.

    Args:
        engine: The ledger.
        spec: What is asked for.
        key: Makes it safe to ask twice: the same key and spec are the same job.
        forked: The job it continues from, and the last turn it takes over.

    Returns:
        The job's id, and whether it is new.

    Raises:
        Refused: The tenant used the key for another spec.
    """
    row = _row_of(spec, key, forked)
    async with transaction(engine) as connection:
        if await fetch(connection, _INSERT, row):
            return str(row["id"]), True
        there = await fetch(connection, _SAME_KEY, {"tenant": spec.tenant, "key": row["key"]})
    if there and there[0]["spec_hash"] == row["spec_hash"]:
        return str(there[0]["id"]), False
    raise Refused(
        f"The key {key} belongs to another job of {spec.tenant}, which asks for something else.",
        hint="Use a new key, or submit exactly the same spec to get that job.",
        job=there[0]["id"] if there else None,
    )


async def find_by_key(engine: AsyncEngine, key: str) -> str | None:
    """The newest job submitted with a key, whichever tenant did; `None` when there is none."""
    rows = await run(engine, _BY_KEY, {"key": key})
    return str(rows[0]["id"]) if rows else None


async def get(engine: AsyncEngine, job: str) -> Job:
    """Read a job.

    Raises:
        Refused: There is none with this id, or a newer FlowForge wrote it.
    """
    rows = await run(engine, _GET, {"job": job})
    if not rows:
        raise unknown(job)
    row = rows[0]
    if row["schema_version"] > SCHEMA_VERSION:
        raise Refused(
            f"{job} was written by a newer FlowForge (schema {row['schema_version']}).",
            hint="Upgrade this FlowForge; it does not guess what it cannot read.",
        )
    result = None if row["result"] is None else json.loads(row["result"])
    spec = JobSpec.model_validate(json.loads(row["spec"]))
    return Job(**_summary(row), spec=spec, result=result)


async def look(engine: AsyncEngine, job: str) -> JobSummary:
    """Read how a job stands, without what it was asked and what came of it.

    Raises:
        Refused: There is none with this id.
    """
    rows = await run(engine, _LOOK, {"job": job})
    if not rows:
        raise unknown(job)
    return JobSummary(**_summary(rows[0]))


async def list_jobs(
    engine: AsyncEngine,
    *,
    tenant: str | None = None,
    in_states: Sequence[states.State] | None = None,
    labels: dict[str, str] | None = None,
    before: str | None = None,
    limit: int = 50,
) -> list[JobSummary]:
    """Jobs, newest first.

    Args:
        engine: The ledger.
        tenant: Only those of one tenant.
        in_states: Only those in one of these.
        labels: Only those that carry all of these.
        before: The id of the last one of the page before.
        limit: How many at most.
    """
    asked = {
        "tenant": tenant,
        "states": None if in_states is None else list(in_states),
        "labels": storable_json(labels or {}),
        "before": before,
        "limit": limit,
    }
    return [JobSummary(**_summary(row)) for row in await run(engine, _LIST, asked)]


async def request_cancel(engine: AsyncEngine, job: str, by: str) -> None:
    """Ask that a job ends; asking twice changes nothing.

    One that has done nothing yet and has no worker ends at once. One that waits is due at once: an
    attempt ends it, and keeps what it did.

    Raises:
        Refused: It has ended otherwise, or there is none.
    """
    await run(engine, _CANCEL, {"job": job, "by": by, "ends": list(states.ENDS)})
    found = await look(engine, job)
    if not found.turns and await give_up(engine, job, "cancelled", f"cancelled by {by}"):
        return
    if states.is_end(found.state) and found.state != "cancelled":
        raise Refused(
            f"{job} has ended already: {found.state}.", hint="There is nothing to cancel."
        )
    await run(engine, _CALL, {"job": job})


async def give_up(engine: AsyncEngine, job: str, state: states.End, reason: str) -> bool:
    """End a job that nobody works on; whether it was one.

    Args:
        engine: The ledger.
        job: Its id.
        state: How it ends; one that may follow `queued` or `waiting`.
        reason: Why.
    """
    before = [other for other in states.LIVE if states.may_follow(other, state)]
    bound = {"job": job, "state": state, "reason": reason, "before": before}
    return bool(await run(engine, _GIVE_UP, bound))


async def delete(engine: AsyncEngine, job: str) -> None:
    """Delete an ended job with all its turns, events and artifacts. What it spent stays counted.

    Raises:
        Refused: It has not ended, or there is none.
    """
    async with transaction(engine) as connection:
        contents = await artifacts.contents_of(connection, job)
        gone = await fetch(connection, _DELETE, {"job": job, "ends": list(states.ENDS)})
        if gone:
            await artifacts.drop_unused(connection, contents)
    if not gone:
        found = await look(engine, job)
        raise Refused(f"{job} is {found.state}.", hint="Cancel it first, then delete it.")


def _row_of(spec: JobSpec, key: str | None, forked: tuple[str, int] | None) -> dict[str, Any]:
    return {
        "id": new_id(),
        "tenant": spec.tenant,
        "key": key,
        "spec": json.dumps(spec.model_dump(mode="json")),  # escaped, so a file may hold a NUL
        "spec_hash": hash_spec(spec),
        "schema_version": SCHEMA_VERSION,
        "model": spec.model,
        "labels": storable_json(spec.labels),
        "priority": spec.priority,
        "limit_usd": Decimal(str(spec.limits.usd)),
        "wall_seconds": batches.wall_seconds(spec, datetime.now(UTC)),
        "deadline": spec.deadline,
        "callback": "wanted" if spec.callback else "none",
        "not_before": None,
        "forked_from": forked[0] if forked else None,
        "forked_turn": forked[1] if forked else None,
    }


def _summary(row: Row) -> dict[str, Any]:
    taken = dict(row)
    fields = {name: taken[name] for name in JobSummary.model_fields if name in taken}
    money = {name: taken[name] for name in Money.model_fields}
    usage = {name: taken[name] for name in Usage.model_fields}
    return fields | {"money": money, "usage": usage}


def unknown(job: str) -> NoSuchJob:
    """The error of an id that no job has."""
    return NoSuchJob(f"There is no job {job}.", hint="List them with `flowforge job list`.")
