"""Attempts that end before their job: the next one goes on, and no two work at once."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest
import sqlalchemy as sa

from flowforge.engines.agent.hands import LOST
from flowforge.engines.sandboxes.sandbox import Sandbox, SandboxLost
from flowforge.errors import Busy, Refused
from flowforge.ledger.journal import events, jobs, orphans
from flowforge.ledger.journal.connection import run
from flowforge.ledger.journal.leases import Fenced
from flowforge.ledger.journal.presence import presence
from flowforge.rules.jobs.spec import SandboxChoice
from tests.engines.agent.going_on import ADD, patch_of, under_way
from tests.engines.agent.stage import FolderProvider, Stage, on_stage


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
