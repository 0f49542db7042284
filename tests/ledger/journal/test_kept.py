"""Artifacts, approvals, callbacks, prices and breakers."""

from __future__ import annotations

import asyncio
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from flowforge.errors import Refused
from flowforge.ledger.journal import (
    approvals,
    artifacts,
    breakers,
    callbacks,
    jobs,
    leases,
    orphans,
    prices,
    sweeping,
    text,
)
from flowforge.ledger.journal.connection import run
from flowforge.rules.jobs import accounts
from flowforge.rules.jobs.prices import Band, Price, cost
from tests.ledger.journal.steps import MODEL, USAGE, a_job, a_lease, end, on

COUNT = sa.text("SELECT count(*) AS n FROM flowforge.blobs")


def test_bytes_come_back_as_they_were_put(url: str) -> None:
    content = bytes(range(256)) * 12_000  # more than one piece

    async def story(engine: AsyncEngine) -> None:
        lease = await a_lease(engine)
        kept = await artifacts.put(engine, lease, "out", "application/octet-stream", content)
        await artifacts.put(engine, lease, "empty", "text/plain", b"")
        assert kept.size_bytes == len(content)
        assert await artifacts.get(engine, lease.job, "out") == content
        assert await artifacts.get(engine, lease.job, "empty") == b""
        names = [each.name for each in await artifacts.list_artifacts(engine, lease.job)]
        assert names == ["out", "empty"]
        with pytest.raises(Refused, match="no artifact nothing"):
            await artifacts.get(engine, lease.job, "nothing")

    on(url, story)


def test_equal_bytes_are_kept_once_and_as_long_as_somebody_names_them(url: str) -> None:
    async def story(engine: AsyncEngine) -> None:
        held = [await a_lease(engine) for _ in range(3)]
        puts = [artifacts.put(engine, lease, "patch", "text/plain", b"same") for lease in held]
        await asyncio.gather(*puts)
        assert (await run(engine, COUNT))[0]["n"] == 1
        await artifacts.put(engine, held[0], "patch", "text/plain", b"better")
        assert await artifacts.get(engine, held[0].job, "patch") == b"better"
        for lease in held:
            await end(engine, lease)
        await asyncio.gather(*[jobs.delete(engine, lease.job) for lease in held])
        assert (await run(engine, COUNT))[0]["n"] == 0

    on(url, story)


def test_what_a_kill_left_behind_is_swept_up(url: str) -> None:
    left = sa.text("INSERT INTO flowforge.blobs VALUES ('0000', 0)")

    async def story(engine: AsyncEngine) -> None:
        lease = await a_lease(engine)
        await artifacts.put(engine, lease, "patch", "text/plain", b"kept")
        await run(engine, left)
        assert await artifacts.sweep(engine) == 1
        assert await artifacts.sweep(engine) == 0
        assert await artifacts.get(engine, lease.job, "patch") == b"kept"

    on(url, story)


def test_too_many_bytes_are_refused(url: str) -> None:
    async def story(engine: AsyncEngine) -> None:
        lease = await a_lease(engine)
        with pytest.raises(Refused, match="the most that is kept"):
            await artifacts.put(engine, lease, "big", "x", bytes(artifacts.MAX_BYTES + 1))

    on(url, story)


def test_a_command_is_granted_once_by_one_person(url: str) -> None:
    async def story(engine: AsyncEngine) -> None:
        lease = await a_lease(engine)
        for _ in range(2):
            asked = await approvals.ask(engine, lease, 1, "t", command="git push", seconds=60)
            assert asked.state == "asked"
        for _ in range(2):
            await approvals.answer(engine, lease.job, 1, "t", granted=True, by="ann")
        with pytest.raises(Refused, match="was granted by ann"):
            await approvals.answer(engine, lease.job, 1, "t", granted=False, by="bob")
        with pytest.raises(Refused, match="was not asked"):
            await approvals.answer(engine, lease.job, 1, "other", granted=True, by="ann")
        asked = await approvals.ask(engine, lease, 1, "t", command="git push", seconds=60)
        assert (asked.state, asked.answered_by) == ("granted", "ann")

    on(url, story)


def test_an_answer_wakes_the_job_that_waits_for_it(url: str) -> None:
    later = datetime.now(UTC) + timedelta(hours=1)

    async def story(engine: AsyncEngine) -> None:
        lease = await a_lease(engine)
        await approvals.ask(engine, lease, 1, "t", command="git push", seconds=60)
        await leases.release(engine, lease, "waiting", "approval", not_before=later)
        assert await orphans.list_due(engine) == []
        await approvals.answer(engine, lease.job, 1, "t", granted=False, by="ann")
        assert [one.job for one in await orphans.list_due(engine)] == [lease.job]

    on(url, story)


def test_silence_is_a_no(url: str) -> None:
    async def story(engine: AsyncEngine) -> None:
        lease = await a_lease(engine)
        asked = await approvals.ask(engine, lease, 1, "t", command="rm", seconds=0)
        assert asked.state == "denied"
        with pytest.raises(Refused, match="was denied by time"):
            await approvals.answer(engine, lease.job, 1, "t", granted=True, by="ann")
        assert [a.command for a in await approvals.list_approvals(engine, lease.job)] == ["rm"]

    on(url, story)


def test_an_end_is_told_by_one_and_again_until_it_worked(url: str) -> None:
    hurry = sa.text("UPDATE flowforge.jobs SET callback_at = now()")

    async def story(engine: AsyncEngine) -> None:
        lease = await a_lease(engine, callback="https://example.org/told")
        await a_job(engine)
        assert await callbacks.take_due(engine) == []
        await end(engine, lease)
        taken = await asyncio.gather(*[callbacks.take_due(engine) for _ in range(4)])
        assert [job for each in taken for job in each] == [lease.job]
        await callbacks.record(engine, lease.job, told=False)
        await run(engine, hurry)
        assert await callbacks.take_due(engine) == [lease.job]
        await callbacks.record(engine, lease.job, told=True)
        await run(engine, hurry)
        assert await callbacks.take_due(engine) == []
        assert (await jobs.get(engine, lease.job)).callback == "told"

    on(url, story)


def test_telling_is_given_up_in_the_end(url: str) -> None:
    hurry = sa.text("UPDATE flowforge.jobs SET callback_at = now()")

    async def story(engine: AsyncEngine) -> None:
        lease = await a_lease(engine, callback="https://example.org/told")
        await end(engine, lease)
        for _ in range(callbacks.MOST_TRIES):
            await run(engine, hurry)
            assert await callbacks.take_due(engine) == [lease.job]
            await callbacks.record(engine, lease.job, told=False)
        assert (await jobs.get(engine, lease.job)).callback == "given_up"

    on(url, story)


def test_a_price_holds_from_its_day_on(url: str) -> None:
    cheaper = Price(
        model="claude-opus-4-5",
        from_date=date(2027, 3, 1),
        bands=(
            Band(above_tokens=1000, input_usd=Decimal(2), output_usd=Decimal(9)),
            Band(input_usd=Decimal(1), output_usd=Decimal(4)),
        ),
        source="a test",
    )

    async def story(engine: AsyncEngine) -> None:
        for _ in range(2):
            await prices.enter(engine, cheaper)
        old = await prices.price(engine, "claude-opus-4-5-20251101", date(2027, 2, 28))
        new = await prices.price(engine, "claude-opus-4-5", date(2027, 3, 1))
        assert (old.from_date, old.bands[0].output_usd) == (date(2026, 1, 1), Decimal(25))
        assert [band.above_tokens for band in new.bands] == [0, 1000]
        with pytest.raises(Refused, match="No price is known for claude-none"):
            await prices.price(engine, "claude-none", date(2027, 1, 1))

    on(url, story)


def test_the_prices_known_at_first_cost_what_the_vendor_says(url: str) -> None:
    async def story(engine: AsyncEngine) -> None:
        opus = await prices.price(engine, "claude-opus-5-5", date(2026, 11, 1))
        assert cost(opus, USAGE) == Decimal("0.00156")
        haiku = await prices.price(engine, "claude-haiku-5-5", date(2026, 11, 1))
        assert [(b.above_tokens, b.input_usd) for b in haiku.bands] == [
            (0, Decimal("0.1")),
            (100_000, Decimal("0.5")),
        ]
        assert haiku.source.startswith("https://")

    on(url, story)


def test_a_breaker_stays_open_until_its_time_or_somebody_closes_it(url: str) -> None:
    async def story(engine: AsyncEngine) -> None:
        assert await breakers.why_open(engine, "main") is None
        await breakers.open_breaker(engine, "main", "401: key revoked")
        assert await breakers.why_open(engine, "main") == "401: key revoked"
        await breakers.close_breaker(engine, "main")
        assert await breakers.why_open(engine, "main") is None
        await breakers.open_breaker(engine, "main", "spend limit", seconds=0)
        assert await breakers.why_open(engine, "main") is None

    on(url, story)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("plain \U0001f600", "plain \U0001f600"),
        ("a\0b", "a\ufffdb"),
        ("\ud83d alone", "\ufffd alone"),
        ("\udcff", "\ufffd"),
    ],
)
def test_what_postgresql_does_not_take_is_replaced(given: str, kept: str) -> None:
    assert text.storable(given) == kept
    assert text.storable_json({given: [given, 1, None]}) == f'{{"{kept}":["{kept}",1,null]}}'


def test_an_open_breaker_tells_who_waits_for_it_and_closed_it_wakes_them(url: str) -> None:
    async def story(engine: AsyncEngine) -> None:
        later = datetime.now(UTC) + timedelta(hours=1)
        for account in ("main", "main-2"):  # one name begins like the other
            await breakers.open_breaker(engine, account, "HTTP 401: no")
            lease = await a_lease(engine)
            reason = accounts.held(account, "HTTP 401: no")
            await leases.release(engine, lease, "waiting", reason, not_before=later)
        other = await a_lease(engine)
        await leases.release(engine, other, "waiting", "rate: too fast", not_before=later)
        await breakers.open_breaker(engine, "spent", "limit", seconds=60)
        await breakers.open_breaker(engine, "past", "limit", seconds=0)
        listed = {one.account: one for one in await breakers.list_breakers(engine)}
        assert sorted(listed) == ["main", "main-2", "spent"]
        assert (listed["main-2"].jobs, listed["main-2"].until) == (1, None)
        assert listed["main-2"].models == (MODEL,)
        assert (listed["spent"].jobs, listed["spent"].models) == (0, ())
        assert listed["spent"].until is not None
        assert await sweeping.wake_let_in(engine) == 0
        closed = await breakers.close_breaker(engine, "main-2")
        assert (closed.was_open, closed.jobs) == (True, 1)
        assert not (await breakers.close_breaker(engine, "main-2")).was_open
        await breakers.close_breaker(engine, "main")
        assert await sweeping.wake_let_in(engine) == 2
        assert len(await orphans.list_due(engine)) == 2
        assert await sweeping.wake_let_in(engine) == 0

    on(url, story)
