"""Pay for one turn: set money aside, wait for the turn in line, ask, settle; again if need be.

No call is made without its intent and the most it may cost in the journal. What became of it is
written whatever happens; when that is not known, the most it may have cost counts as spent.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine

from flowforge.engines.agent.conversation import Conversation
from flowforge.engines.agent.endings import Ended, Parked
from flowforge.engines.agent.happenings import Happenings
from flowforge.engines.agent.patience import patiently
from flowforge.engines.agent.recovery import HELD_SECONDS, Recovery
from flowforge.engines.agent.steps import reached
from flowforge.engines.agent.transport import CallFailed, Model, Said
from flowforge.errors import FlowForgeError, Unavailable
from flowforge.ledger.journal import money, prices, rates, turns
from flowforge.ledger.journal.leases import Lease
from flowforge.rules.jobs import accounts, budgets, retries
from flowforge.rules.jobs.budgets import Reservation
from flowforge.rules.jobs.prices import Price, cost
from flowforge.rules.jobs.rates import Dimension
from flowforge.rules.jobs.records import CallOutcome, Reply
from flowforge.rules.jobs.retries import Failure
from flowforge.rules.jobs.spec import JobSpec
from flowforge.rules.jobs.steps import Ending

_OVERHEAD_TOKENS = 2_000  # tools and what the API adds on its own
_LEAST_REPLY_TOKENS = 256  # less is of no use to anybody
_LET_GO_SECONDS = 5.0
_LOOK_SECONDS = 3_600.0  # somebody may have raised a limit
_LOOK_SOON_SECONDS = 60.0


@dataclass(frozen=True)
class Bid:
    """What is set aside for a call."""

    price: Price
    tokens: int
    """No fewer than the prompt has."""

    most: int
    """The most tokens the reply may hold."""

    @property
    def usd(self) -> Decimal:
        """The most it may cost."""
        return budgets.estimate(self.price, self.tokens, self.most)


@dataclass(frozen=True)
class Paid:
    """A reply and what it cost."""

    said: Said
    reply: Reply
    """What the journal has of it."""

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
        self._prices = prices.Today(engine, spec.model)
        self.recovery = Recovery(engine, model.account.name, spec.model, happenings)

    async def turn(self, n: int, talk: Conversation, calls_before: int) -> Paid:
        """Ask for turn `n`, which follows what was said, and write the reply down.

        Args:
            n: Its number.
            talk: All that was said before it.
            calls_before: How many calls earlier attempts made for it.

        Raises:
            Ended: Money, the context window or the provider's no ends the job.
            Parked: It has to wait longer than it may hold its place.
        """
        asked = talk.request()
        model, price = self._spec.model, await patiently(self._prices.today)
        await patiently(lambda: turns.begin(self._engine, self._lease, n, talk.digest, model))
        tokens = talk.most_prompt_tokens
        tokens = await self.count(asked) if tokens is None else tokens + _OVERHEAD_TOKENS
        failures: list[Failure] = []
        for call in range(calls_before + 1, calls_before + 1 + retries.MOST_CALLS):
            bid = await self.set_aside(n, call, asked, price, tokens)
            tokens = bid.tokens
            try:
                said = await self._ask(n, call, asked, bid)
            except CallFailed as failed:
                failures.append(failed.failure)
                await self.recovery.recover(n, call, failures)
            else:
                paid = await self.write(n, call, said, price, batch=False)
                await self._correct(said, bid)
                return paid
        raise Parked("the model does not answer", retries.LONGEST_WAIT_SECONDS)

    async def price(self) -> Price:
        """What the model costs today."""
        return await patiently(self._prices.today)

    async def count(self, asked: dict[str, Any]) -> int:
        """No fewer tokens than a request has."""
        failures: list[Failure] = []
        while len(failures) < retries.MOST_CALLS:
            try:
                return await self._model.count(asked) + _OVERHEAD_TOKENS
            except CallFailed as failed:
                failures.append(failed.failure)
                await self.recovery.recover(None, len(failures), failures)
        raise Parked("the model does not answer", retries.LONGEST_WAIT_SECONDS)

    async def set_aside(
        self, n: int, call: int, asked: dict[str, Any], price: Price, tokens: int
    ) -> Bid:
        """Set the most a call may cost aside: for a shorter reply when money is short."""
        got = await self._reserve(n, call, bid := Bid(price, tokens, self._spec.max_tokens))
        if got.granted:
            return bid
        tokens = await self.count(asked)
        most = budgets.clamp(price, tokens, self._spec.max_tokens, got.left_usd) or 0
        if most >= min(_LEAST_REPLY_TOKENS, self._spec.max_tokens):
            got = await self._reserve(n, call, bid := Bid(price, tokens, most))
            if got.granted:
                return bid
        raise await self._short(got)

    async def _reserve(self, n: int, call: int, bid: Bid) -> Reservation:
        model = self._spec.model
        return await patiently(
            lambda: money.reserve(self._engine, self._lease, n, call, bid.usd, model)
        )

    async def _short(self, got: Reservation) -> Exception:
        if got.short == "job":
            reason = (
                f"another turn may cost ${got.usd:.4f}, ${got.left_usd:.4f} of the limit is left"
            )
            return Ended(Ending(state="budget_exceeded", reason=reason))
        now = datetime.now(UTC)
        tomorrow = now.replace(hour=0, minute=0, second=5, microsecond=0) + timedelta(days=1)
        seconds = min((tomorrow - now).total_seconds(), _LOOK_SECONDS)
        scopes = (money.EVERYONE, f"tenant:{self._spec.tenant}")
        today = await patiently(lambda: money.list_spending(self._engine))
        if any(one.reserved_usd for one in today if one.scope in scopes):
            seconds = _LOOK_SOON_SECONDS  # what calls under way do not use comes back
        whose = "everybody's day" if got.short == "everyone" else f"the day of {self._spec.tenant}"
        return Parked(f"budget: {whose} has ${got.left_usd:.4f} left", seconds)

    async def _ask(self, n: int, call: int, asked: dict[str, Any], bid: Bid) -> Said:
        """Make one call, and settle it unless it brings a reply."""
        try:
            await self._wait_in_line(bid)
        except BaseException:
            await self._let_go(n, call, "failed", Decimal(0))
            raise
        try:
            self._happenings.tell("turn", n=n, call=call, state="asking")
            reached(f"ask-{n}")
            said = await self._model.ask(
                asked,
                bid.most,
                idle_seconds=self._spec.limits.idle_seconds,
                on_text=lambda text: self._happenings.text(n, call, text),
            )
            reached(f"reply-{n}")
            return said
        except CallFailed as failed:
            unknown = bid.usd if failed.failure.begun else Decimal(0)
            outcome: CallOutcome = "lost" if failed.failure.begun else "failed"
            await self.settle(n, call, outcome, unknown)
            raise
        except BaseException:
            await self._let_go(n, call, "lost", bid.usd)
            raise

    async def _wait_in_line(self, bid: Bid) -> None:
        amounts: dict[Dimension, float] = {
            "requests": 1,
            "input_tokens": bid.tokens,
            "output_tokens": bid.most,
        }
        longest = retries.LONGEST_WAIT_SECONDS
        turn = await patiently(
            lambda: rates.take(
                self._engine, self._credential, self._spec.model, amounts, longest=longest
            )
        )
        if turn.breaker:
            raise Parked(accounts.held(self._credential, turn.breaker), HELD_SECONDS)
        if not turn.taken:
            raise Parked("rate: the account is at its limit", turn.wait_seconds)
        await asyncio.sleep(turn.wait_seconds)

    async def settle(self, n: int, call: int, outcome: CallOutcome, unknown: Decimal) -> None:
        """Say what became of a call that brought no reply, and the most it may have cost."""
        await patiently(
            lambda: money.settle(self._engine, self._lease, n, call, outcome, unknown_usd=unknown)
        )

    async def _let_go(self, n: int, call: int, outcome: CallOutcome, unknown: Decimal) -> None:
        """Settle a call of an attempt that is told to stop, if that is quick.

        What is not settled then counts as spent, at the latest when the job is claimed again.
        """
        with contextlib.suppress(FlowForgeError, TimeoutError):
            async with asyncio.timeout(_LET_GO_SECONDS):
                await self.settle(n, call, outcome, unknown)

    async def write(self, n: int, call: int, said: Said, price: Price, *, batch: bool) -> Paid:
        """Write a reply down, and settle what it cost."""
        usd = cost(price, said.usage, batch=batch)
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
                rehearsal=said.rehearsal,
            )
        )
        return Paid(said, reply, usd)

    async def _correct(self, said: Said, bid: Bid) -> None:
        """Follow what a reply says about limits, and give back what it did not use."""
        read = said.usage.prompt_tokens - said.usage.read_tokens
        unused: dict[Dimension, float] = {
            "input_tokens": max(0, bid.tokens - read),  # what is cached does not count
            "output_tokens": bid.most - said.usage.output_tokens,
        }
        model = self._spec.model
        with contextlib.suppress(Unavailable):  # what is paid counts, also without this
            await rates.correct(self._engine, self._credential, model, said.limits, unused=unused)
