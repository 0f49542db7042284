"""The end of an attempt: the patch, the story, the result; or the job given back to wait."""

from __future__ import annotations

import asyncio
import contextlib
import json
from decimal import Decimal
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine

from flowforge.engines.agent import conversation, transcript
from flowforge.engines.agent.endings import Parked
from flowforge.engines.agent.happenings import Happenings
from flowforge.engines.agent.patch import Patch
from flowforge.engines.agent.patience import patiently
from flowforge.engines.agent.station import Station
from flowforge.engines.agent.steps import reached
from flowforge.errors import FlowForgeError, Unavailable
from flowforge.ledger.journal import artifacts, jobs, leases, turns
from flowforge.ledger.journal.leases import Lease
from flowforge.rules.jobs.records import Job, Turn
from flowforge.rules.jobs.states import State
from flowforge.rules.jobs.steps import Ending
from flowforge.rules.values import Value

PATCH = "patch"
TRANSCRIPT = "transcript.md"
RECORD = "transcript.jsonl"
_KEEP_SECONDS = 60.0


class Outcome(Value):
    """How an attempt left its job."""

    job: str
    state: State
    reason: str | None
    result: dict[str, Any] | None = None
    """Of a job that is over: text, output, turns, usd, usage, rehearsal, patch."""


async def park(
    engine: AsyncEngine, lease: Lease, parked: Parked, happenings: Happenings
) -> Outcome:
    """Give the job back; it goes on when its time has come."""
    reason = happenings.mask(parked.reason)
    await happenings.add("state", state="waiting", reason=reason)
    await patiently(
        lambda: leases.release(engine, lease, "waiting", reason, not_before=parked.until)
    )
    return Outcome(job=lease.job, state="waiting", reason=reason)


async def finish(
    engine: AsyncEngine,
    lease: Lease,
    ending: Ending,
    place: Station | None,
    happenings: Happenings,
) -> Outcome:
    """Keep what the job has made, and end it.

    Raises:
        Fenced: Another attempt has the job.
    """
    await patiently(lambda: leases.advance(engine, lease, "finishing", ending.reason))
    patch = None
    if place is not None:
        try:
            patch = await _patch(place)
            happenings.tell_contacts(place.contacts())
        except FlowForgeError as error:
            ending = _unless_ended_badly(ending, f"there is no patch: {error.message}")
            await happenings.add("note", text=f"There is no patch: {error}")
    if patch is not None:
        await _put(engine, lease, PATCH, "text/x-patch", patch.content)
        reached("patch")
        if not patch.proven:
            ending = _unless_ended_badly(ending, f"its patch does not apply: {patch.why_not}")
    return await _end(engine, lease, ending, patch, happenings)


async def _end(
    engine: AsyncEngine, lease: Lease, ending: Ending, patch: Patch | None, happenings: Happenings
) -> Outcome:
    """Keep the story, and let the job go for good."""
    job = await patiently(lambda: jobs.get(engine, lease.job))
    done = await patiently(lambda: turns.read(engine, lease.job))
    story = transcript.markdown(job, ending, done)
    await _put(engine, lease, TRANSCRIPT, "text/markdown", happenings.mask(story).encode())
    record = transcript.record(job, done)
    await _put(engine, lease, RECORD, "application/jsonl", happenings.mask(record).encode())
    result = happenings.masked(_result(job, ending, done, patch))
    tree = patch.tree if patch is not None else None
    await happenings.add("ended", **{**result, "text": str(result["text"])[:2_000]})
    await patiently(
        lambda: leases.release(engine, lease, ending.state, ending.reason, result=result, tree=tree)
    )
    return Outcome(job=job.id, state=ending.state, reason=ending.reason, result=result)


async def _patch(place: Station) -> Patch:
    """The patch to the files as they are, or else as they were kept last.

    Raises:
        Refused: More has changed than can be kept.
        Damaged: Git failed.
    """
    if place.is_open:
        with contextlib.suppress(Unavailable, TimeoutError):
            async with asyncio.timeout(_KEEP_SECONDS):
                await place.stop_commands()
                await place.keep()
    return await place.workspace.patch()


def _unless_ended_badly(ending: Ending, reason: str) -> Ending:
    """Nothing is a success whose patch cannot be had."""
    return Ending(state="failed", reason=reason) if ending.state == "succeeded" else ending


async def _put(engine: AsyncEngine, lease: Lease, name: str, kind: str, content: bytes) -> None:
    await patiently(lambda: artifacts.put(engine, lease, name, kind, content))


def _result(job: Job, ending: Ending, done: list[Turn], patch: Patch | None) -> dict[str, Any]:
    replies = [conversation.hear(turn.reply) for turn in done if turn.reply]
    text = replies[-1].text if replies else ""
    output = None
    if job.spec.output_schema is not None and ending.state == "succeeded":
        output = json.loads(text)
    return {
        "state": ending.state,
        "reason": ending.reason,
        "text": text,
        "output": output,
        "turns": len(replies),
        "usd": _dollars(job.money.cost_usd),
        "unknown_usd": _dollars(job.money.unknown_usd + job.money.reserved_usd),
        "usage": job.usage.model_dump(),
        "rehearsal": job.rehearsal,
        "patch": None if patch is None else _describe(patch),
    }


def _describe(patch: Patch) -> dict[str, Any]:
    return {
        "proven": patch.proven,
        "why_not": patch.why_not,
        "commit": patch.commit,
        "base": patch.base,
        "tree": patch.tree,
        "files": [file.path for file in patch.files],
        "insertions": patch.insertions,
        "deletions": patch.deletions,
        "size_bytes": len(patch.content),
    }


def _dollars(usd: Decimal) -> str:
    """Dollars to the millionth, as text: no figure of money is a binary fraction."""
    return f"{usd:.6f}"
