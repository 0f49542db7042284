"""What a call may cost at most, and how long a reply what is left still pays for.

The estimate is never below the bill: input is taken as written to the cache, output as used up.
"""

from __future__ import annotations

from decimal import ROUND_DOWN, Decimal
from typing import Literal

from flowforge.rules.jobs.prices import Price
from flowforge.rules.values import Value

MIN_REPLY_TOKENS = 1
_MILLION = Decimal(1_000_000)

Scope = Literal["job", "tenant", "everyone"]


class Reservation(Value):
    """Whether money was set aside for a call, and if not, where it is short."""

    granted: bool
    usd: Decimal
    left_usd: Decimal | None
    """The smallest amount left of the budgets that apply, before this call; `None`: no limit."""

    short: Scope | None = None
    """Whose budget has least left, when it was not granted."""


def estimate(
    price: Price, prompt_tokens: int, max_tokens: int, *, long_cache: bool = False
) -> Decimal:
    """The most a call may cost, in dollars.

    Args:
        price: Of the model.
        prompt_tokens: As counted before the call.
        max_tokens: The most the reply may hold.
        long_cache: Whether it writes to the cache for an hour rather than five minutes.
    """
    band = price.band(prompt_tokens)
    dearest = price.write_1h_factor if long_cache else price.write_5m_factor
    prompt = prompt_tokens * band.input_usd * max(dearest, Decimal(1))
    return (prompt + max_tokens * band.output_usd) / _MILLION


def clamp(
    price: Price,
    prompt_tokens: int,
    max_tokens: int,
    left_usd: Decimal | None,
    *,
    long_cache: bool = False,
) -> int | None:
    """The longest reply that what is left pays for.

    Args:
        price: Of the model.
        prompt_tokens: As counted before the call.
        max_tokens: What is wanted.
        left_usd: Dollars left; `None` when there is no limit.
        long_cache: As for `estimate`.

    Returns:
        The tokens; `None` when what is left does not even pay for the prompt and one token.
    """
    if left_usd is None:
        return max_tokens
    after_prompt = left_usd - estimate(price, prompt_tokens, 0, long_cache=long_cache)
    per_token = price.band(prompt_tokens).output_usd / _MILLION
    if after_prompt < per_token * MIN_REPLY_TOKENS:
        return None
    if per_token == 0:
        return max_tokens
    affordable = int((after_prompt / per_token).to_integral_value(rounding=ROUND_DOWN))
    return min(max_tokens, affordable)


def judge(
    usd: Decimal,
    job_left: Decimal,
    tenant_left: Decimal | None,
    everyone_left: Decimal | None,
    *,
    granted: bool,
) -> Reservation:
    """Say what came of a reservation.

    Args:
        usd: What was asked for.
        job_left: Dollars left of the job's own limit.
        tenant_left: Of its tenant's day; `None` without a limit.
        everyone_left: Of everybody's day; `None` without a limit.
        granted: Whether it was set aside.
    """
    limits: dict[Scope, Decimal | None] = {
        "job": job_left,
        "tenant": tenant_left,
        "everyone": everyone_left,
    }
    known = {scope: left for scope, left in limits.items() if left is not None}
    scope = min(known, key=lambda name: known[name])
    return Reservation(
        granted=granted, usd=usd, left_usd=known[scope], short=None if granted else scope
    )
