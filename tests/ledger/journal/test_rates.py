from __future__ import annotations

import asyncio
import random
import time

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from flowforge.ledger.journal import breakers, rates
from flowforge.ledger.journal.connection import run
from flowforge.rules.jobs import rates as rule
from flowforge.rules.jobs.rates import Bucket, Told
from flowforge.twin.model.limits import Limiter, Limits
from flowforge.twin.model.problems import Rejected
from tests.ledger.journal.steps import on

CLOCK = sa.text("SELECT CAST(extract(epoch FROM clock_timestamp()) AS double precision) AS now")


async def learn(engine: AsyncEngine, per_minute: float, remaining: float | None = None) -> None:
    told = Told(limit=per_minute, remaining=per_minute if remaining is None else remaining)
    await rates.correct(engine, "main", "opus", {"requests": told})


async def take(engine: AsyncEngine, amount: float = 1, longest: float = 60) -> rates.Turn:
    return await rates.take(engine, "main", "opus", {"requests": amount}, longest=longest)


async def bucket(engine: AsyncEngine) -> Bucket:
    return (await rates.read(engine, "main", "opus"))["requests"]


async def clock(engine: AsyncEngine) -> float:
    return float((await run(engine, CLOCK))[0]["now"])


def test_thirty_takers_never_go_faster_than_the_limit(url: str) -> None:
    async def story(engine: AsyncEngine) -> None:
        await learn(engine, 1200)
        began = await clock(engine)

        async def work() -> list[float]:
            return [(await take(engine)).wait_seconds for _ in range(10)]

        waits = [
            wait for each in await asyncio.gather(*[work() for _ in range(30)]) for wait in each
        ]
        taken, held = await clock(engine) - began, await bucket(engine)
        assert held.arrival >= began + 300 / held.rate - 1e-3
        longest = (300 - held.burst) / held.rate
        assert longest - taken - 1e-3 <= max(waits) <= longest
        # Whoever waits starts a whole interval apart from the next one, whenever it asked.
        assert sum(wait == 0 for wait in waits) <= held.burst + held.rate * taken

    on(url, story, connections=8)


def test_the_statement_does_what_the_rule_says(url: str) -> None:
    async def story(engine: AsyncEngine) -> None:
        await learn(engine, 600)
        for amount in (1, 30, 0.5, 200):
            before, early = await bucket(engine), await clock(engine)
            turn = await take(engine, amount, longest=3600)
            late, after = await clock(engine), await bucket(engine)
            soonest, least = rule.take(before, amount, early)
            latest, most = rule.take(before, amount, late)
            rounding = 1e-4
            assert most - rounding <= turn.wait_seconds <= least + rounding
            assert soonest.arrival - rounding <= after.arrival <= latest.arrival + rounding

    on(url, story)


def test_who_would_wait_too_long_takes_no_place(url: str) -> None:
    async def story(engine: AsyncEngine) -> None:
        await learn(engine, 60)
        await take(engine, 100, longest=3600)
        before = await bucket(engine)
        turn = await take(engine, longest=10)
        assert not turn.taken and turn.wait_seconds > 90
        assert await bucket(engine) == before
        await rates.correct(engine, "main", "opus", {}, unused={"requests": 100})
        assert (await take(engine, longest=10)).taken

    on(url, story)


def test_a_crowd_that_knows_no_limit_yet_starts_with_care(url: str) -> None:
    async def story(engine: AsyncEngine) -> None:
        amounts: dict[rule.Dimension, float] = {"requests": 1, "output_tokens": 1e9}
        takers = [rates.take(engine, "main", "opus", amounts) for _ in range(12)]
        waits = sorted(turn.wait_seconds for turn in await asyncio.gather(*takers))
        assert waits[0] == 0 and waits[-1] > 1
        await learn(engine, 6000)
        assert (await take(engine)).wait_seconds == 0

    on(url, story)


def test_the_slowest_of_the_dimensions_counts(url: str) -> None:
    async def story(engine: AsyncEngine) -> None:
        told: dict[rule.Dimension, Told] = {
            "requests": Told(limit=6000, remaining=6000),
            "output_tokens": Told(limit=600, remaining=600),
        }
        await rates.correct(engine, "main", "opus", told)
        turn = await rates.take(engine, "main", "opus", {"requests": 1, "output_tokens": 600})
        assert turn.wait_seconds == 0
        turn = await rates.take(engine, "main", "opus", {"requests": 1, "output_tokens": 95})
        assert 9 < turn.wait_seconds <= 95 / 9.5

    on(url, story)


def test_after_a_refusal_all_wait_and_then_go_on_more_slowly(url: str) -> None:
    async def story(engine: AsyncEngine) -> None:
        await learn(engine, 600)
        before = await bucket(engine)
        await asyncio.gather(*[rates.refuse(engine, "main", "opus", 5) for _ in range(8)])
        after = await bucket(engine)
        assert after.factor == rule.CUT * before.factor
        assert 3 < (await take(engine)).wait_seconds < 6
        await rates.put_off_growth(engine, "main", "opus")
        assert (await bucket(engine)).changed_at > after.changed_at

    on(url, story)


def test_what_somebody_else_used_is_followed_and_a_new_limit_taken_over(url: str) -> None:
    async def story(engine: AsyncEngine) -> None:
        await learn(engine, 12)
        await learn(engine, 12, remaining=0)
        assert (await take(engine)).wait_seconds > 2
        await learn(engine, 1200)
        held = await bucket(engine)
        assert (held.limit, held.burst) == (1200, 10)

    on(url, story)


@pytest.mark.slow
def test_a_storm_of_thirty_workers_is_hardly_ever_told_that_it_is_too_fast(url: str) -> None:
    provider = Limiter(time.monotonic)
    provider.set(Limits(requests=1200, burst=20 / 1200))
    jitter = random.Random(7)
    asked, refused = 0, 0

    async def call(engine: AsyncEngine) -> bool:
        nonlocal asked, refused
        await asyncio.sleep((await take(engine)).wait_seconds + jitter.random() * 0.05)
        asked += 1
        try:
            provider.take(10, 10)
        except Rejected as no:
            refused += 1
            await rates.refuse(engine, "main", "opus", float(no.headers["retry-after"]))
            return False
        remaining = provider.headers()["anthropic-ratelimit-requests-remaining"]
        await learn(engine, 1200, remaining=float(remaining))
        return True

    async def work(engine: AsyncEngine) -> None:
        done = 0
        while done < 8:
            done += await call(engine)

    async def story(engine: AsyncEngine) -> float:
        began = time.monotonic()
        await asyncio.gather(*[work(engine) for _ in range(30)])
        return time.monotonic() - began

    seconds = on(url, story, connections=8)
    assert refused <= 0.01 * asked
    assert asked - refused == 240
    assert seconds < 1.25 * 240 / 20


def test_an_open_breaker_lets_nobody_take(url: str) -> None:
    async def story(engine: AsyncEngine) -> None:
        await learn(engine, 600)
        before = await bucket(engine)
        await breakers.open_breaker(engine, "main", "401")
        turn = await take(engine)
        assert (turn.taken, turn.breaker) == (False, "401")
        assert await bucket(engine) == before

    on(url, story)
