from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from decimal import Decimal

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from flowforge.errors import Busy, Damaged, Refused, Unavailable
from flowforge.ledger.journal import (
    approvals,
    artifacts,
    events,
    jobs,
    leases,
    money,
    orphans,
    turns,
)
from flowforge.ledger.journal.connection import run
from flowforge.ledger.journal.leases import Fenced, Lease
from flowforge.ledger.journal.presence import presence
from flowforge.rules.jobs.records import Reply
from tests.ledger.journal.steps import MODEL, USAGE, a_job, a_lease, a_turn, end, on

Write = Callable[[AsyncEngine, Lease], Awaitable[object]]
ONE = Decimal(1)
REPLY = Reply(text="{}", stop_reason="end_turn")

WRITES: dict[str, Write] = {
    "advance": lambda e, lease: leases.advance(e, lease, "finishing"),
    "release": lambda e, lease: leases.release(e, lease, "queued"),
    "note": lambda e, lease: leases.note(e, lease, sandbox_id="s"),
    "begin": lambda e, lease: turns.begin(e, lease, 2, "h", MODEL),
    "reserve": lambda e, lease: money.reserve(e, lease, 2, 1, ONE, MODEL),
    "settle": lambda e, lease: money.settle(e, lease, 1, 2, "failed"),
    "finish": lambda e, lease: turns.finish(e, lease, 1, 2, REPLY, usage=USAGE, usd=ONE),
    "begin_tool": lambda e, lease: turns.begin_tool(e, lease, 1, 1, "t", name="bash", input="{}"),
    "finish_tool": lambda e, lease: turns.finish_tool(
        e, lease, 1, "toolu_open", result="late", is_error=False, milliseconds=1
    ),
    "event": lambda e, lease: events.append(e, lease, [("late", {})]),
    "artifact": lambda e, lease: artifacts.put(e, lease, "patch", "text/plain", b"late"),
    "approval": lambda e, lease: approvals.ask(e, lease, 1, "t", command="ls", seconds=9),
}

WORKER = """
import asyncio, sys
from flowforge.ledger.journal.connection import open_engine
from flowforge.ledger.journal.presence import presence

async def work():
    async with presence(open_engine(sys.argv[1]), 600) as here:
        await here.claim(sys.argv[2], "doomed")
        print("claimed", flush=True)
        await asyncio.Event().wait()

asyncio.run(work())
"""


@pytest.mark.parametrize("kind", WRITES)
def test_a_zombie_is_refused_at_each_kind_of_write(url: str, kind: str) -> None:
    async def story(engine: AsyncEngine) -> None:
        zombie = await a_lease(engine)
        await a_turn(engine, zombie, 1)
        await turns.begin_tool(engine, zombie, 1, 1, "toolu_open", name="bash", input="{}")
        await money.reserve(engine, zombie, 1, 2, Decimal("0.5"), MODEL)
        async with presence(engine, grace=0) as here:
            new = await here.claim(zombie.job, "new")
            before = await state_of(engine, zombie.job)
            with pytest.raises(Fenced, match="lost the job"):
                await WRITES[kind](engine, zombie)
            assert await state_of(engine, zombie.job) == before
            assert new.fence == zombie.fence + 1

    on(url, story)


async def state_of(engine: AsyncEngine, job: str) -> tuple[object, ...]:
    return (
        (await jobs.get(engine, job)).model_copy(update={"worked_seconds": 0.0}),  # time goes on
        await turns.read(engine, job),
        await money.list_calls(engine, job),
        await money.list_spending(engine),
        await events.read(engine, job),
        await artifacts.list_artifacts(engine, job),
        await leases.list_attempts(engine, job),
        await approvals.list_approvals(engine, job),
    )


def test_of_many_who_claim_a_job_one_gets_it(url: str) -> None:
    async def story(engine: AsyncEngine) -> None:
        job = await a_job(engine)
        async with presence(engine, grace=0) as here, presence(engine, grace=0) as there:
            claims = [(here, there)[n % 2].claim(job, f"worker {n}") for n in range(8)]
            answers = await asyncio.gather(*claims, return_exceptions=True)
        won = [answer for answer in answers if isinstance(answer, Lease)]
        assert [lease.fence for lease in won] == [1]
        assert sum(isinstance(answer, Busy) for answer in answers) == 7

    on(url, story)


def test_of_many_who_claim_an_orphan_one_gets_it(url: str) -> None:
    async def story(engine: AsyncEngine) -> None:
        lost = await a_lease(engine)
        async with (
            presence(engine, grace=0) as one,
            presence(engine, grace=0) as two,
            presence(engine, grace=0) as three,
        ):
            claims = [(one, two, three)[n % 3].claim(lost.job, f"{n}") for n in range(9)]
            answers = await asyncio.gather(*claims, return_exceptions=True)
        won = [answer for answer in answers if isinstance(answer, Lease)]
        assert [lease.fence for lease in won] == [2]
        assert [a.end_reason for a in await leases.list_attempts(engine, lost.job)] == [
            "its worker was gone",
            None,
        ]

    on(url, story)


def test_the_first_in_line_is_claimed_and_nobody_claims_it_twice(url: str) -> None:
    async def story(engine: AsyncEngine) -> None:
        made = [await a_job(engine, priority=n % 3) for n in range(6)]
        line = sorted(made, key=lambda job: (-(made.index(job) % 3), job))
        async with presence(engine) as here, presence(engine) as there:
            first = await here.claim_next("w")
            others = await asyncio.gather(*[(here, there)[n % 2].claim_next("w") for n in range(7)])
        assert first is not None and first.job == line[0]
        claimed = [lease.job for lease in others if lease is not None]
        assert sorted(claimed) == sorted(line[1:])

    on(url, story)


def test_a_killed_worker_is_noticed_long_before_its_lease_runs_out(url: str) -> None:
    async def story(engine: AsyncEngine) -> None:
        job = await a_job(engine)
        command = [sys.executable, "-c", WORKER, url, job]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "claimed\n"
            assert await orphans.list_orphans(engine, grace=0) == []
            async with presence(engine, grace=0) as here:
                with pytest.raises(Busy, match="doomed"):
                    await here.claim(job, "early")
            os.kill(process.pid, signal.SIGKILL)
        found = await eventually_orphaned(engine)
        assert (found.job, found.worker, found.why) == (job, "doomed", "its worker was gone")
        assert await orphans.requeue(engine, found, grace=0)
        assert not await orphans.requeue(engine, found, grace=0)
        async with presence(engine) as here:
            assert (await here.claim(job, "next")).fence == 3

    on(url, story)


async def eventually_orphaned(engine: AsyncEngine) -> orphans.Orphan:
    async with asyncio.timeout(5):
        while not (found := await orphans.list_orphans(engine, grace=0)):
            await asyncio.sleep(0.02)
    return found[0]


def test_a_lease_that_ran_out_makes_an_orphan_though_the_connection_stands(url: str) -> None:
    async def story(engine: AsyncEngine) -> None:
        job = await a_job(engine)
        async with presence(engine, seconds=0.0) as slow:
            zombie = await slow.claim(job, "slow")
            assert [o.why for o in await orphans.list_orphans(engine)] == ["its lease ran out"]
            async with presence(engine) as here:
                await here.claim(job, "new")
                with pytest.raises(Fenced):
                    await slow.renew(zombie)

    on(url, story)


def test_a_server_that_has_just_started_is_not_asked_for_locks(url: str) -> None:
    async def story(engine: AsyncEngine) -> None:
        await a_lease(engine)
        assert await orphans.list_orphans(engine, grace=86_400) == []
        assert len(await orphans.list_orphans(engine, grace=0)) == 1

    on(url, story)


def test_a_lock_is_given_up_with_its_attempt(url: str) -> None:
    async def story(engine: AsyncEngine) -> None:
        one, two = await a_job(engine), await a_job(engine)
        async with presence(engine) as here:
            lease, kept = await here.claim(one, "w"), await here.claim(two, "w")
            await here.let_go(lease)
            await here.let_go(lease)
            assert [o.job for o in await orphans.list_orphans(engine, grace=0)] == [one]
            assert (await here.renew(kept)).cancelled_by is None

    on(url, story)


def test_renewing_a_lease_tells_who_cancelled(url: str) -> None:
    async def story(engine: AsyncEngine) -> None:
        job = await a_job(engine)
        async with presence(engine) as here:
            lease = await here.claim(job, "w")
            before = await here.renew(lease)
            await jobs.request_cancel(engine, job, "ann")
            after = await here.renew(lease)
        assert before.cancelled_by is None
        assert after.cancelled_by == "ann" and after.until > before.until

    on(url, story)


def test_a_lock_is_taken_again_after_its_connection_was_cut(url: str) -> None:
    cut = sa.text("""
        SELECT pg_terminate_backend(pid, 5000) FROM pg_locks
         WHERE locktype = 'advisory' AND pid <> pg_backend_pid()
    """)

    async def story(engine: AsyncEngine) -> None:
        job = await a_job(engine)
        async with presence(engine) as here:
            lease = await here.claim(job, "w")
            assert len(await run(engine, cut)) == 1
            assert [o.job for o in await orphans.list_orphans(engine, grace=0)] == [job]
            with pytest.raises(Unavailable):
                await here.renew(lease)
            await here.renew(lease)
            assert await orphans.list_orphans(engine, grace=0) == []

    on(url, story)


def test_giving_up_a_wait_does_not_cost_the_others_their_locks(url: str) -> None:
    async def story(engine: AsyncEngine) -> None:
        job = await a_job(engine)
        async with presence(engine) as here:
            lease = await here.claim(job, "w")
            for _ in range(5):
                renewing = asyncio.create_task(here.renew(lease))
                await asyncio.sleep(0)
                renewing.cancel()
            await here.renew(lease)
            assert await orphans.list_orphans(engine, grace=0) == []

    on(url, story)


def test_states_follow_one_another_only_as_the_rules_say(url: str) -> None:
    async def story(engine: AsyncEngine) -> None:
        lease = await a_lease(engine)
        await leases.advance(engine, lease, "running")
        with pytest.raises(Damaged, match="from running to succeeded"):
            await leases.release(engine, lease, "succeeded")
        await end(engine, lease)
        found = await jobs.get(engine, lease.job)
        assert (found.state, found.result) == ("succeeded", {"patch": "patch"})
        assert found.ended_at is not None
        async with presence(engine) as here:
            with pytest.raises(Refused, match="has ended: succeeded"):
                await here.claim(lease.job, "w")

    on(url, story)


def test_an_attempt_is_known_by_where_it_runs(url: str) -> None:
    async def story(engine: AsyncEngine) -> None:
        lease = await a_lease(engine)
        await leases.note(engine, lease, flow_run_id="run-1")
        await leases.note(engine, lease, sandbox_id="box-1")
        orphan = (await orphans.list_orphans(engine, grace=0))[0]
        assert (orphan.flow_run_id, orphan.sandbox_id) == ("run-1", "box-1")

    on(url, story)


def test_an_attempt_that_nobody_saw_die_has_worked_until_its_lease_ran_out(url: str) -> None:
    async def story(engine: AsyncEngine) -> None:
        requeued, claimed = await a_lease(engine), await a_lease(engine)
        night = "started_at = started_at - interval '9 h'"
        await run(engine, sa.text(f"UPDATE flowforge.attempts SET {night}"))
        off = "lease_until = now() - interval '8 h'"
        await run(engine, sa.text(f"UPDATE flowforge.jobs SET {off}"))
        for orphan in await orphans.list_orphans(engine):
            if orphan.job == requeued.job:
                assert await orphans.requeue(engine, orphan)
        async with presence(engine) as here:
            await here.claim(claimed.job, "worker")
            for job in (requeued.job, claimed.job):
                found = await jobs.look(engine, job)
                assert 3500 < found.worked_seconds < 5000

    on(url, story)
