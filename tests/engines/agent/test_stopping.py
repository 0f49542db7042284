from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from itertools import pairwise

import psutil
import pytest
import sqlalchemy as sa

from flowforge.engines.agent.finishing import Outcome
from flowforge.engines.agent.hands import LOST
from flowforge.engines.sandboxes.local import LocalProvider
from flowforge.engines.sandboxes.sandbox import Sandbox, SandboxLost
from flowforge.errors import Busy, Refused
from flowforge.ledger.journal import approvals, artifacts, events, jobs, orphans
from flowforge.ledger.journal.connection import run
from flowforge.ledger.journal.leases import Fenced
from flowforge.ledger.journal.presence import presence
from flowforge.rules.jobs.spec import SandboxChoice
from tests.engines.agent.stage import FolderProvider, Stage, on_stage

ADD = {"bash": "echo x >> marks; wc -l < marks"}
SLOW = {"text": "word " * 400, "seconds": 60}


@asynccontextmanager
async def under_way(stage: Stage, job: str) -> AsyncIterator[asyncio.Task[Outcome]]:
    """An attempt that goes on while the block does something."""
    task = asyncio.create_task(stage.work(job))
    try:
        yield task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def until(stage: Stage, job: str, kind: str, **data: object) -> None:
    """Until something happened in a job."""
    async with asyncio.timeout(20):
        while not any(
            data.items() <= event.data.items() for event in await stage.events(job, kind)
        ):
            await asyncio.sleep(0.02)


async def patch_of(stage: Stage, job: str) -> str:
    return (await artifacts.get(stage.engine, job, "patch")).decode()


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


def test_a_block_left_early_gives_the_job_back_and_the_next_attempt_goes_on(
    journal_url: str,
) -> None:
    async def story(stage: Stage) -> None:
        job = await stage.submit({"tools": [ADD]}, {"tools": [ADD]}, {"text": "Done."})
        async with stage.attempt(job) as work:
            await work.step()
        found = await stage.job(job)
        assert (found.state, found.worker) == ("queued", None)
        outcome = await stage.work(job)
        assert (outcome.state, stage.asked) == ("succeeded", 3)
        first, second = await stage.results(job)
        assert first == "1"
        assert second.startswith("2\n[FlowForge] Files are as they were")

    on_stage(journal_url, story)


def test_a_fault_of_ours_lets_the_job_wait_longer_each_time_and_fails_it_in_the_end(
    journal_url: str,
) -> None:
    async def story(stage: Stage) -> None:
        job = await stage.submit({"text": "Done."})
        waits = []
        for _ in range(9):
            with pytest.raises(KeyError):
                async with stage.attempt(job):
                    raise KeyError("fault")
            found = await stage.job(job)
            assert (found.state, found.reason) == ("waiting", "unavailable: KeyError")
            assert found.not_before is not None
            waits.append(found.not_before)
        pauses = [b - a for a, b in pairwise(waits)]
        assert pauses[0] < pauses[1] < pauses[2]
        with pytest.raises(KeyError):
            async with stage.attempt(job):
                raise KeyError("fault")
        found = await stage.job(job)
        assert found.state == "failed"
        assert str(found.reason).startswith("10 attempts in a row")

    on_stage(journal_url, story)


def test_a_job_that_was_given_back_stays_so_whatever_follows(journal_url: str) -> None:
    async def story(stage: Stage) -> None:
        job = await stage.submit({"tools": [ADD]}, approval={"commands": ["*"]})
        with pytest.raises(asyncio.CancelledError):
            async with stage.attempt(job) as work:
                assert await work.step() is None
                assert (await work.finish()).state == "waiting"
                raise asyncio.CancelledError
        found = await stage.job(job)
        assert (found.state, found.fence) == ("waiting", 1)
        assert str(found.reason).startswith("approval: ")

    on_stage(journal_url, story)


def test_a_zombie_writes_nothing_more(journal_url: str) -> None:
    async def story(stage: Stage) -> None:
        job = await stage.submit(
            {"tools": [{"bash": "sleep 0.5; echo x >> marks"}]}, {"text": "Done."}
        )
        stuck: asyncio.Event = asyncio.Event()

        async def zombie() -> None:
            async with (
                presence(stage.engine, grace=0) as mine,
                stage.attempt(job, presence=mine, worker="zombie") as work,
            ):
                await mine.close()  # what others see when its connection is cut
                stuck.set()
                while await work.step():
                    pass
                await work.finish()

        lost = asyncio.create_task(zombie())
        await stuck.wait()
        async with asyncio.timeout(5):
            while not await orphans.list_orphans(stage.engine, grace=0):
                await asyncio.sleep(0.02)
        outcome = await stage.work(job)
        with pytest.raises(Fenced):
            await lost
        assert outcome.state == "succeeded"
        assert (await patch_of(stage, job)).count("+x") == 1
        attempts = {e.data["reason"] for e in await stage.events(job, "state")}
        assert {"zombie", "stage"} <= attempts
        turns = await stage.turns(job)
        assert [(turn.n, turn.fence) for turn in turns][-1] == (2, 2)

    on_stage(journal_url, story)


def test_a_job_that_somebody_works_on_is_left_to_them(journal_url: str) -> None:
    async def story(stage: Stage) -> None:
        job = await stage.submit({"text": "Done."})
        async with stage.attempt(job):
            with pytest.raises(Busy, match="is being worked on by stage"):
                await stage.work(job)
        assert (await stage.work(job)).state == "succeeded"

    on_stage(journal_url, story)


def test_a_journal_of_a_newer_version_is_not_guessed_at(journal_url: str) -> None:
    async def story(stage: Stage) -> None:
        job = await stage.submit({"text": "Done."})
        newer = "UPDATE flowforge.jobs SET schema_version = :version WHERE id = :job"
        await run(stage.engine, sa.text(newer), {"job": job, "version": 99})
        with pytest.raises(Refused, match="newer FlowForge"):
            await stage.work(job)
        assert stage.asked == 0
        found = await jobs.look(stage.engine, job)
        assert (found.state, found.worker) == ("waiting", None)
        await run(stage.engine, sa.text(newer), {"job": job, "version": 1})
        assert (await stage.work(job)).state == "succeeded"

    on_stage(journal_url, story)


def test_a_sandbox_that_is_lost_is_made_anew_with_the_files_as_they_were(
    journal_url: str,
) -> None:
    async def story(stage: Stage) -> None:
        job = await stage.submit(
            {"tools": [ADD]},
            {"tools": [{"bash": 'rm -rf "$HOME"'}, ADD]},
            {"text": "Done."},
        )
        outcome = await stage.work(job)
        assert outcome.state == "succeeded"
        assert await stage.results(job) == ["1", LOST, "2"]
        assert len(stage.provider.opened) == 2

        again = {"tools": [{"bash": 'rm -rf "$HOME"'}], "repeat": 5}
        job = await stage.submit({"tools": [ADD]}, again, {"text": "Done."})
        outcome = await stage.work(job)
        assert outcome.state == "waiting"  # for a better place
        assert str(outcome.reason).startswith("unavailable: ")

    on_stage(journal_url, story)


def test_a_machine_without_sandboxes_fails_the_job_and_one_that_is_away_lets_it_wait(
    journal_url: str,
) -> None:
    class Nowhere(FolderProvider):
        error: Exception = Refused("There are no sandboxes here.", hint="Go elsewhere.")

        async def open(self, job: str, fence: int, choice: SandboxChoice) -> Sandbox:
            raise self.error

    async def story(stage: Stage) -> None:
        nowhere = Nowhere(stage.provider._folder)
        job = await stage.submit({"text": "Done."})
        outcome = await stage.work(job, provider=nowhere)
        assert outcome.state == "failed"
        assert outcome.reason == "There are no sandboxes here. Go elsewhere."
        assert stage.asked == 0

        nowhere.error = SandboxLost("It is gone.", hint="Open another.")
        job = await stage.submit({"text": "Done."})
        for _ in range(9):
            outcome = await stage.work(job, provider=nowhere)
            assert (outcome.state, outcome.reason) == ("waiting", "unavailable: It is gone.")
        outcome = await stage.work(job, provider=nowhere)
        assert outcome.state == "failed"
        assert "It is gone." in str(outcome.reason)

    on_stage(journal_url, story)


def test_whoever_follows_reads_every_event_once_also_after_a_break(journal_url: str) -> None:
    async def story(stage: Stage) -> None:
        job = await stage.submit(
            {"text": "word " * 20, "tools": [ADD], "seconds": 0.5}, {"text": "Done.", "seconds": 1}
        )
        seen: list[int] = []

        async def read(most: int) -> None:
            last = seen[-1] if seen else 0
            follow = events.follow(stage.engine, stage.services.news, job, after=last)
            async for event in follow:
                seen.append(event.seq)
                most -= 1
                if not most:
                    break
            await follow.aclose()  # type: ignore[attr-defined]

        async with under_way(stage, job) as task:
            for _ in range(3):
                await read(3)
            await task
            await read(10_000)
        assert seen == [event.seq for event in await stage.events(job)]
        assert seen == list(range(1, len(seen) + 1))

    on_stage(journal_url, story)
