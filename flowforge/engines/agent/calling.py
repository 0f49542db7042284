"""Pay for one turn: set money aside, wait for the turn in line, ask, settle; again if need be.

No call is made without its intent and the most it may cost in the journal. What became of it is
written whatever happens; when that is not known, the most it may have cost counts as spent.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine

from flowforge.engines.agent import conversation
from flowforge.engines.agent.happenings import Happenings
from flowforge.engines.agent.patience import patiently
from flowforge.engines.agent.transport import CallFailed, Model, Said
from flowforge.ledger.journal import breakers, money, prices, rates, turns
from flowforge.ledger.journal.leases import Lease
from flowforge.rules.jobs import budgets, retries
from flowforge.rules.jobs.budgets import Reservation
from flowforge.rules.jobs.prices import Price, cost
from flowforge.rules.jobs.rates import Dimension
from flowforge.rules.jobs.records import Reply, Turn
from flowforge.rules.jobs.retries import Failure
from flowforge.rules.jobs.spec import JobSpec
from flowforge.rules.jobs.steps import Ending

_BREAKER_SECONDS = 300.0
_OVERHEAD_TOKENS = 2_000  # tools and what the API adds on its own
_LEAST_REPLY_TOKENS = 256  # less is of no use to anybody


class Ended(Exception):
    """The job cannot go on; never leaves the engine."""

    def __init__(self, ending: Ending) -> None:
        super().__init__(ending.reason)
        self.ending = ending


class Parked(Exception):
    """The job gives its place back and goes on later; never leaves the engine."""

    def __init__(self, reason: str, seconds: float) -> None:
        super().__init__(reason)
        self.reason = reason
        self.until = datetime.now(UTC) + timedelta(seconds=seconds)


@dataclass(frozen=True)
class Paid:
    """A reply and what it cost."""

    said: Said
    usd: Decimal


class Caller:
    """Asks the model for the turns of one attempt.

    Args:
        engine: The ledger.
        lease: The attempt's.
        spec: The job.
        model: Who is asked.
        happenings: Told what happens.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        lease: Lease,
        spec: JobSpec,
        model: Model,
        happenings: Happenings,
    ) -> None:
        self._engine, self._lease, self._spec = engine, lease, spec
        self._model, self._happenings = model, happenings
        self._credential = model.account.name

    async def turn(self, n: int, done: Sequence[Turn], calls_before: int) -> Paid:
        """Ask for turn `n`, which follows the turns done, and write the reply down.

        Args:
            n: Its number.
            done: The turns before it.
            calls_before: How many calls earlier attempts made for it.

        Raises:
            Ended: Money, the context window or the provider's no ends the job.
            Parked: It has to wait longer than it may hold its place.
        """
        asked = conversation.request(self._spec, done)
        price = await prices.price(self._engine, self._spec.model, datetime.now(UTC).date())
        hash = conversation.digest(asked)
        await patiently(lambda: turns.begin(self._engine, self._lease, n, hash, self._spec.model))
        tokens = await self._estimate(asked, done)
        failures = 0
        for call in range(calls_before + 1, calls_before + 1 + retries.MOST_CALLS):
            most, tokens = await self._set_aside(n, call, asked, price, tokens)
            try:
                await self._wait_in_line(tokens, most)
                said = await self._ask(n, call, asked, most)
            except CallFailed as failed:
                await self._settle_failure(n, call, failed.failure, price, tokens, most)
                failures += 1
                await self._recover(n, call, failed.failure, failures)
                continue
            except BaseException:
                await self._settle_unknown(n, call, price, tokens, most)
                raise
            return await self._write(n, call, said, price, most)
        raise Parked("the model does not answer", retries.LONGEST_WAIT_SECONDS)

    async def _estimate(self, asked: dict[str, Any], done: Sequence[Turn]) -> int:
        """No fewer tokens than the prompt has: what was counted last and the bytes since then."""
        if not done or done[-1].reply is None:
            return await self._count(asked)
        used = conversation.usage(done[-1].reply)
        before = used.prompt_tokens + used.output_tokens
        return before + conversation.new_bytes(done) + _OVERHEAD_TOKENS

    async def _count(self, asked: dict[str, Any]) -> int:
        for tries in range(1, retries.MOST_CALLS + 1):
            try:
                return await self._model.count(asked) + _OVERHEAD_TOKENS
            except CallFailed as failed:
                await self._recover(None, tries, failed.failure, tries)
        raise Parked("the model does not answer", retries.LONGEST_WAIT_SECONDS)

    async def _set_aside(
        self, n: int, call: int, asked: dict[str, Any], price: Price, tokens: int
    ) -> tuple[int, int]:
        """Set money aside; return how long the reply may be, and the tokens of the prompt."""
        most = self._spec.max_tokens
        got = await self._reserve(n, call, price, tokens, most)
        if got.granted:
            return most, tokens
        tokens = await self._count(asked)
        most = budgets.clamp(price, tokens, self._spec.max_tokens, got.left_usd) or 0
        if most >= min(_LEAST_REPLY_TOKENS, self._spec.max_tokens):
            got = await self._reserve(n, call, price, tokens, most)
            if got.granted:
                return most, tokens
        raise self._short(got)

    async def _reserve(
        self, n: int, call: int, price: Price, tokens: int, most: int
    ) -> Reservation:
        usd = budgets.estimate(price, tokens, most)
        return await patiently(
            lambda: money.reserve(self._engine, self._lease, n, call, usd, self._spec.model)
        )

    def _short(self, got: Reservation) -> Exception:
        if got.short == "job":
            reason = (
                f"another turn may cost ${got.usd:.4f}, ${got.left_usd:.4f} of the limit is left"
            )
            return Ended(Ending(state="budget_exceeded", reason=reason))
        now = datetime.now(UTC)
        tomorrow = now.replace(hour=0, minute=0, second=5, microsecond=0) + timedelta(days=1)
        whose = "everybody's day" if got.short == "everyone" else f"the day of {self._spec.tenant}"
        return Parked(
            f"budget: {whose} has ${got.left_usd:.4f} left", (tomorrow - now).total_seconds()
        )

    async def _wait_in_line(self, tokens: int, most: int) -> None:
        amounts: dict[Dimension, float] = {
            "requests": 1,
            "input_tokens": tokens,
            "output_tokens": most,
        }
        turn = await rates.take(
            self._engine,
            self._credential,
            self._spec.model,
            amounts,
            longest=retries.LONGEST_WAIT_SECONDS,
        )
        if turn.breaker:
            raise Parked(f"account {self._credential}: {turn.breaker}", _BREAKER_SECONDS)
        if not turn.taken:
            raise Parked("rate: the account is at its limit", turn.wait_seconds)
        await asyncio.sleep(turn.wait_seconds)

    async def _ask(self, n: int, call: int, asked: dict[str, Any], most: int) -> Said:
        await self._happenings.add("turn", n=n, call=call, state="asking")
        return await self._model.ask(
            asked,
            most,
            idle_seconds=self._spec.limits.idle_seconds,
            on_text=lambda text: self._happenings.text(n, call, text),
        )

    async def _recover(self, n: int | None, call: int, failure: Failure, failures: int) -> None:
        """Wait as long as a failure asks for, or raise what it means for the job."""
        if failure.kind in ("credential", "spend"):
            seconds = _BREAKER_SECONDS if failure.kind == "spend" else None
            await breakers.open_breaker(
                self._engine, self._credential, failure.message, seconds=seconds
            )
            raise Parked(f"account {self._credential}: {failure.message}", _BREAKER_SECONDS)
        if failure.kind == "too_long":
            raise Ended(Ending(state="context_exceeded", reason=failure.message))
        if failure.kind == "request":
            raise Ended(
                Ending(state="failed", reason=f"the model's API refused: {failure.message}")
            )
        if failure.kind == "rate":
            await rates.refuse(
                self._engine, self._credential, self._spec.model, failure.after_seconds or 1.0
            )
        if failure.kind == "overloaded":
            await rates.put_off_growth(self._engine, self._credential, self._spec.model)
        seconds = retries.wait_seconds(failures, failure, random.random())
        why = failure.message
        await self._happenings.add("retry", n=n, call=call, why=why, wait_seconds=seconds)
        if seconds > retries.LONGEST_WAIT_SECONDS:
            raise Parked(f"rate: {why}", seconds)
        await asyncio.sleep(seconds)

    async def _settle_failure(
        self, n: int, call: int, failure: Failure, price: Price, tokens: int, most: int
    ) -> None:
        if failure.begun:
            await self._settle_unknown(n, call, price, tokens, most)
        else:
            await patiently(lambda: money.settle(self._engine, self._lease, n, call, "failed"))

    async def _settle_unknown(
        self, n: int, call: int, price: Price, tokens: int, most: int
    ) -> None:
        usd = budgets.estimate(price, tokens, most)
        await asyncio.shield(
            patiently(
                lambda: money.settle(self._engine, self._lease, n, call, "lost", unknown_usd=usd)
            )
        )

    async def _write(self, n: int, call: int, said: Said, price: Price, most: int) -> Paid:
        usd = cost(price, said.usage)
        reply = Reply(
            text=said.text,
            stop_reason=said.stop_reason,
            request_id=said.request_id,
            cache_miss=said.cache_miss,
        )
        await patiently(
            lambda: turns.finish(
                self._engine,
                self._lease,
                n,
                call,
                reply,
                usage=said.usage,
                usd=usd,
                price_from=price.from_date.isoformat(),
            )
        )
        await rates.correct(self._engine, self._credential, self._spec.model, said.limits)
        unused = most - said.usage.output_tokens
        await rates.give_back(
            self._engine, self._credential, self._spec.model, "output_tokens", unused
        )
        return Paid(said, usd)
