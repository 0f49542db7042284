"""Jobs that are stopped: by a person, or by their time."""

from __future__ import annotations

import asyncio
import time

import psutil
import pytest
import sqlalchemy as sa

from flowforge.engines.sandboxes.local import LocalProvider
from flowforge.errors import Refused
from flowforge.ledger.journal import approvals, artifacts, jobs, orphans
from flowforge.ledger.journal.connection import run
from tests.engines.agent.going_on import ADD, patch_of, under_way
from tests.engines.agent.stage import Stage, on_stage

SLOW = {"text": "word " * 400, "seconds": 60}


async def until(stage: Stage, job: str, kind: str, **data: object) -> None:
    """Until something happened in a job."""
    async with asyncio.timeout(20):
        while not any(
            data.items() <= event.data.items() for event in await stage.events(job, kind)
        ):
            await asyncio.sleep(0.02)


def test_a_job_that_waits_in_line_is_cancelled_at_once(journal_url: str) -> None:
    async def story(stage: Stage) -> None:
        job = await stage.submit({"text": "Done."})
        await jobs.request_cancel(stage.engine, job, "ann")
        assert (await stage.job(job)).state == "cancelled"
        with pytest.raises(Refused, match="has ended: cancelled"):
            await stage.work(job)
        assert stage.asked == 0

    on_stage(journal_url, story)


def test_a_cancel_ends_a_reply_that_comes_and_keeps_what_there_is(journal_url: str) -> None:
    async def story(stage: Stage) -> None:
        job = await stage.submit({"tools": [ADD]}, SLOW)
        async with under_way(stage, job) as task:
            await until(stage, job, "text", n=2)
            began = time.monotonic()
            await jobs.request_cancel(stage.engine, job, "ann")
            while not stage.server.state.counters.aborted_streams:
                await asyncio.sleep(0.01)
                assert time.monotonic() - began < 5
            stopped = time.monotonic() - began
            outcome = await task
        assert stopped < 1
        assert time.monotonic() - began < 5
        assert (outcome.state, outcome.reason) == ("cancelled", "cancelled by ann")
        assert "+x" in await patch_of(stage, job)
        found = await stage.job(job)
        assert found.money.reserved_usd == 0
        assert found.money.unknown_usd > 0
        assert outcome.result is not None
        assert outcome.result["unknown_usd"] == f"{found.money.unknown_usd:.6f}"

    on_stage(journal_url, story)


def test_a_cancel_while_it_waits_keeps_what_it_did(journal_url: str) -> None:
    async def story(stage: Stage) -> None:
        job = await stage.submit(
            {"tools": [ADD]},
            {"tools": [{"bash": "git push"}]},
            approval={"commands": ["git push*"]},
        )
        assert (await stage.work(job)).state == "waiting"
        await jobs.request_cancel(stage.engine, job, "ann")
        asked = stage.asked
        assert job in [due.job for due in await orphans.list_due(stage.engine)]
        outcome = await stage.work(job)
        assert (outcome.state, outcome.reason) == ("cancelled", "cancelled by ann")
        assert stage.asked == asked
        assert "+x" in await patch_of(stage, job)

    on_stage(journal_url, story)


def sleeping() -> list[int]:
    """The processes of the test that follows."""
    return [
        process.pid
        for process in psutil.process_iter(["cmdline"])
        if process.info["cmdline"] == ["sleep", "61.37"]
    ]


def test_a_cancel_ends_a_command_and_all_it_started(journal_url: str, local: LocalProvider) -> None:
    async def story(stage: Stage) -> None:
        command = "setsid sleep 61.37 & sleep 61.37"
        job = await stage.submit({"tools": [ADD]}, {"tools": [{"bash": command}]})
        async with under_way(stage, job) as task:
            await until(stage, job, "tool", n=2, state="started")
            while len(sleeping()) < 2:
                await asyncio.sleep(0.02)
            began = time.monotonic()
            await jobs.request_cancel(stage.engine, job, "ann")
            outcome = await task
        assert time.monotonic() - began < 5
        assert outcome.state == "cancelled"
        assert sleeping() == []
        assert "+x" in await patch_of(stage, job)
        (turn,) = [turn for turn in await stage.turns(job) if turn.n == 2]
        assert [call.done for call in turn.tools] == [False]

    on_stage(journal_url, story, provider=local)


async def leave(stage: Stage, job: str, seconds: float) -> None:
    """Let a job's only attempt have worked until so many of its seconds are left."""
    wall = (await stage.job(job)).spec.limits.wall_seconds
    late = "UPDATE flowforge.attempts SET started_at = ended_at - make_interval(secs => :worked)"
    bound = {"job": job, "worked": wall - seconds}
    await run(stage.engine, sa.text(f"{late} WHERE job = :job"), bound)


def test_the_model_is_told_before_time_is_up(journal_url: str) -> None:
    async def story(stage: Stage) -> None:
        job = await stage.submit(
            {"tools": [ADD]},
            {"tools": [ADD]},
            {"text": "Done."},
            limits={"wall_seconds": 3_000},
        )
        async with stage.attempt(job) as work:
            await work.step()
        await leave(stage, job, 299)
        assert (await stage.work(job)).state == "succeeded"
        early, late = await stage.results(job)
        assert "[FlowForge]" not in early
        assert "[FlowForge] About 29" in late
        assert "seconds are left" in late

    on_stage(journal_url, story)


def test_a_reply_that_comes_when_time_is_up_is_left_and_the_patch_kept(journal_url: str) -> None:
    async def story(stage: Stage) -> None:
        job = await stage.submit({"tools": [ADD]}, SLOW, limits={"wall_seconds": 60})
        async with stage.attempt(job) as work:
            await work.step()
        await leave(stage, job, 2)
        outcome = await stage.work(job)
        assert (outcome.state, outcome.reason) == ("timed_out", "its time is up")
        assert "+x" in await patch_of(stage, job)
        transcript = (await artifacts.get(stage.engine, job, "transcript.md")).decode()
        assert transcript.endswith("timed_out: its time is up\n")

    on_stage(journal_url, story)


def test_a_night_of_waiting_is_no_time_at_work(journal_url: str) -> None:
    async def story(stage: Stage) -> None:
        script = ({"tools": [ADD]}, {"tools": [{"bash": "git push || true"}]}, {"text": "Done."})
        job = await stage.submit(*script, approval={"commands": ["git push*"]})
        assert (await stage.work(job)).state == "waiting"
        for table, fields in (("jobs", ("started_at",)), ("attempts", ("started_at", "ended_at"))):
            moved = ", ".join(f"{one} = {one} - interval '12 hours'" for one in fields)
            where = f"WHERE {'id' if table == 'jobs' else 'job'} = :job"
            await run(
                stage.engine, sa.text(f"UPDATE flowforge.{table} SET {moved} {where}"), {"job": job}
            )
        (asked,) = await approvals.list_approvals(stage.engine, job)
        await approvals.answer(
            stage.engine, job, asked.turn, asked.tool_use_id, granted=True, by="ann"
        )
        assert (await stage.work(job)).state == "succeeded"
        found = await stage.job(job)
        assert 0 < found.worked_seconds < found.wall_seconds == 3_600

    on_stage(journal_url, story)


def test_a_job_whose_worker_died_when_its_time_was_up_still_has_its_patch(journal_url: str) -> None:
    async def story(stage: Stage) -> None:
        job = await stage.submit({"tools": [ADD]}, {"text": "Done."}, limits={"wall_seconds": 60})
        async with stage.attempt(job) as work:
            await work.step()
        await leave(stage, job, -3_600)
        outcome = await stage.work(job)
        assert (outcome.state, stage.asked) == ("timed_out", 1)
        assert "+x" in await patch_of(stage, job)

    on_stage(journal_url, story)
