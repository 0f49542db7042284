from __future__ import annotations

import asyncio
from decimal import Decimal

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from flowforge.errors import Damaged
from flowforge.ledger.journal import jobs, leases, money, orphans, turns
from flowforge.ledger.journal.leases import Lease
from flowforge.ledger.journal.presence import presence
from flowforge.rules.jobs.budgets import Reservation
from flowforge.rules.jobs.records import Reply
from tests.ledger.journal.steps import MODEL, USAGE, a_job, a_lease, a_turn, on

REPLY = Reply(text="{}", stop_reason="end_turn")


async def reserve(engine: AsyncEngine, lease: Lease, call: int, usd: str) -> Reservation:
    return await money.reserve(engine, lease, 1, call, Decimal(usd), MODEL)


async def totals(engine: AsyncEngine) -> set[tuple[Decimal, Decimal, Decimal]]:
    """Spent, reserved and unknown of every scope; one tenant's are everybody's."""
    rows = await money.list_spending(engine)
    assert sorted(row.scope for row in rows) == ["everyone", "tenant:default"]
    return {(row.spent_usd, row.reserved_usd, row.unknown_usd) for row in rows}


def test_of_forty_racing_jobs_exactly_as_many_get_money_as_there_is(url: str) -> None:
    async def story(engine: AsyncEngine) -> None:
        await money.set_limit(engine, Decimal("1.00"), "ann", tenant="default")
        held = [await a_lease(engine) for _ in range(40)]
        asked = [reserve(engine, lease, 1, "0.07") for lease in held]
        answers = await asyncio.gather(*asked)
        assert sum(answer.granted for answer in answers) == 14
        short = [answer for answer in answers if not answer.granted]
        assert {(a.short, a.left_usd) for a in short} == {("tenant", Decimal("0.02"))}
        assert await totals(engine) == {(Decimal(0), Decimal("0.98"), Decimal(0))}

    on(url, story, connections=8)


def test_racing_calls_of_one_job_never_exceed_its_limit(url: str) -> None:
    async def story(engine: AsyncEngine) -> None:
        lease = await a_lease(engine, limits={"usd": 1})
        answers = await asyncio.gather(*[reserve(engine, lease, n, "0.3") for n in range(1, 11)])
        assert sum(answer.granted for answer in answers) == 3
        found = await jobs.get(engine, lease.job)
        assert found.money.reserved_usd == Decimal("0.9")
        assert {a.short for a in answers} == {None, "job"}

    on(url, story, connections=8)


def test_reserving_and_settling_side_by_side_never_waits_in_a_circle(url: str) -> None:
    async def work(engine: AsyncEngine, lease: Lease) -> None:
        for n in range(1, 6):
            await a_turn(engine, lease, n, usd="0.01")

    async def story(engine: AsyncEngine) -> None:
        held = [await a_lease(engine) for _ in range(8)]
        await asyncio.gather(*[work(engine, lease) for lease in held])
        assert await totals(engine) == {(Decimal("0.40"), Decimal(0), Decimal(0))}

    on(url, story, connections=8)


def test_everybodys_day_holds_across_tenants(url: str) -> None:
    async def story(engine: AsyncEngine) -> None:
        await money.set_limit(engine, Decimal("0.5"), "ann")
        mine, theirs = await a_lease(engine), await a_lease(engine, tenant="other")
        assert (await reserve(engine, mine, 1, "0.4")).granted
        refused = await reserve(engine, theirs, 1, "0.2")
        assert (refused.short, refused.left_usd) == ("everyone", Decimal("0.1"))
        await money.set_limit(engine, None, "ann")
        assert (await reserve(engine, theirs, 1, "0.2")).granted

    on(url, story)


def test_a_write_whose_answer_was_lost_may_be_repeated(url: str) -> None:
    async def story(engine: AsyncEngine) -> None:
        lease = await a_lease(engine)
        for _ in range(2):
            await turns.begin(engine, lease, 1, "h", MODEL)
        for _ in range(2):
            assert (await reserve(engine, lease, 1, "0.5")).granted
        for _ in range(2):
            await turns.finish(engine, lease, 1, 1, REPLY, usage=USAGE, usd=Decimal("0.2"))
        for _ in range(2):
            await turns.begin_tool(engine, lease, 1, 0, "t", name="bash", input="{}")
        for _ in range(2):
            await turns.finish_tool(
                engine, lease, 1, "t", result="ok", is_error=False, milliseconds=1
            )
        for _ in range(2):
            await leases.advance(engine, lease, "finishing")
        for _ in range(2):
            await leases.release(engine, lease, "succeeded")
        found = await jobs.get(engine, lease.job)
        assert found.money.cost_usd == Decimal("0.2")
        assert found.usage == USAGE
        assert found.turns == 1
        assert await totals(engine) == {(Decimal("0.2"), Decimal(0), Decimal(0))}

    on(url, story)


def test_a_call_that_failed_gives_its_money_back_and_one_that_was_cut_does_not(url: str) -> None:
    async def story(engine: AsyncEngine) -> None:
        lease = await a_lease(engine)
        await turns.begin(engine, lease, 1, "h", MODEL)
        await reserve(engine, lease, 1, "0.5")
        await money.settle(engine, lease, 1, 1, "failed")
        await reserve(engine, lease, 2, "0.5")
        await money.settle(
            engine,
            lease,
            1,
            2,
            "lost",
            usage=USAGE,
            usd=Decimal("0.1"),
            unknown_usd=Decimal("0.4"),
        )
        await reserve(engine, lease, 3, "0.5")
        await turns.finish(engine, lease, 1, 3, REPLY, usage=USAGE, usd=Decimal("0.2"))
        calls = await money.list_calls(engine, lease.job)
        assert [(c.outcome, c.usd, c.unknown_usd) for c in calls] == [
            ("failed", 0, 0),
            ("lost", Decimal("0.1"), Decimal("0.4")),
            ("paid", Decimal("0.2"), 0),
        ]
        found = await jobs.get(engine, lease.job)
        assert found.money.cost_usd == sum(call.usd for call in calls) == Decimal("0.3")
        assert found.usage == USAGE + USAGE
        assert (await turns.read(engine, lease.job))[0].calls == 3
        assert await totals(engine) == {(Decimal("0.3"), Decimal(0), Decimal("0.4"))}

    on(url, story)


@pytest.mark.parametrize("by", ["claim", "requeue", "release"])
def test_money_of_an_attempt_that_died_in_a_call_counts_as_perhaps_spent(url: str, by: str) -> None:
    async def story(engine: AsyncEngine) -> None:
        lease = await a_lease(engine, limits={"usd": 1})
        await reserve(engine, lease, 1, "0.7")
        if by == "release":
            await leases.release(engine, lease, "queued", "told to stop")
        elif by == "requeue":
            await orphans.requeue(engine, (await orphans.list_orphans(engine, grace=0))[0], grace=0)
        async with presence(engine, grace=0) as here:
            new = await here.claim(lease.job, "new")
        found = await jobs.get(engine, lease.job)
        assert found.money.unknown_usd == Decimal("0.7")
        assert found.money.cost_usd == found.money.reserved_usd == 0
        assert [c.outcome for c in await money.list_calls(engine, lease.job)] == ["unknown"]
        assert await totals(engine) == {(Decimal(0), Decimal(0), Decimal("0.7"))}
        refused = await reserve(engine, new, 2, "0.5")
        assert (refused.granted, refused.left_usd) == (False, Decimal("0.3"))

    on(url, story)


def test_settling_what_was_not_set_aside_is_a_fault(url: str) -> None:
    async def story(engine: AsyncEngine) -> None:
        lease = await a_lease(engine)
        await turns.begin(engine, lease, 1, "h", MODEL)
        with pytest.raises(Damaged, match="not set aside"):
            await turns.finish(engine, lease, 1, 1, REPLY, usage=USAGE, usd=Decimal(1))
        with pytest.raises(Damaged, match="not set aside"):
            await money.settle(engine, lease, 1, 1, "failed")
        assert (await turns.read(engine, lease.job))[0].reply is None

    on(url, story)


def test_waiting_for_money_keeps_what_was_spent(url: str) -> None:
    async def story(engine: AsyncEngine) -> None:
        lease = await a_lease(engine)
        await a_turn(engine, lease, 1, usd="0.123456789")
        await leases.release(engine, lease, "waiting", "budget")
        found = await jobs.get(engine, lease.job)
        assert (found.state, found.reason) == ("waiting", "budget")
        assert found.money.cost_usd == Decimal("0.123456789")
        assert found.tree == "t1"

    on(url, story)


def test_a_job_that_was_never_reserved_for_has_no_calls(url: str) -> None:
    async def story(engine: AsyncEngine) -> None:
        assert await money.list_calls(engine, await a_job(engine)) == []
        assert await money.list_spending(engine) == []

    on(url, story)
