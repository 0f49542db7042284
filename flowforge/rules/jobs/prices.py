"""What the tokens of a call cost, exactly.

Prices are data with a date; this only multiplies. Everything is `Decimal` dollars, never rounded.
"""

from __future__ import annotations

import re
from datetime import date
from decimal import Decimal

from pydantic import Field

from flowforge.rules.values import Value

_MILLION = Decimal(1_000_000)
_DATED = re.compile(r"-20\d{6}$")


class Usage(Value):
    """Tokens of one call, or of many together. The four kinds of input do not overlap."""

    input_tokens: int = Field(default=0, ge=0)
    """Neither read from the cache nor written to it."""

    write_5m_tokens: int = Field(default=0, ge=0)
    write_1h_tokens: int = Field(default=0, ge=0)
    read_tokens: int = Field(default=0, ge=0)
    output_tokens: int = Field(default=0, ge=0)
    """Thinking is a part of it."""

    thinking_tokens: int = Field(default=0, ge=0)

    @property
    def prompt_tokens(self) -> int:
        """All of the input, however it is billed."""
        return self.input_tokens + self.write_5m_tokens + self.write_1h_tokens + self.read_tokens

    def __add__(self, other: Usage) -> Usage:
        """The tokens of both."""
        mine, theirs = self.model_dump(), other.model_dump()
        return Usage(**{name: mine[name] + theirs[name] for name in mine})


class Band(Value):
    """Dollars per million tokens for prompts of a certain length."""

    above_tokens: int = Field(default=0, ge=0)
    """Holds for prompts longer than this."""

    input_usd: Decimal = Field(ge=0)
    output_usd: Decimal = Field(ge=0)


class Price(Value):
    """What one model costs from a day on."""

    model: str
    from_date: date
    bands: tuple[Band, ...] = Field(min_length=1)
    write_5m_factor: Decimal = Decimal("1.25")
    write_1h_factor: Decimal = Decimal("2")
    read_factor: Decimal = Decimal("0.1")
    batch_factor: Decimal = Decimal("0.5")
    source: str = Field(min_length=1)
    """Where the figures were read."""

    def band(self, prompt_tokens: int) -> Band:
        """The band of a prompt: the highest one it is longer than, or the lowest of all."""
        ordered = sorted(self.bands, key=lambda band: band.above_tokens)
        fitting = [band for band in ordered if prompt_tokens > band.above_tokens]
        return fitting[-1] if fitting else ordered[0]


def cost(price: Price, usage: Usage, *, batch: bool = False) -> Decimal:
    """The dollars a call is billed.

    Args:
        price: Of the model that answered, on that day.
        usage: Its tokens.
        batch: Whether it went by batch.
    """
    band = price.band(usage.prompt_tokens)
    billed_input = (
        usage.input_tokens
        + usage.write_5m_tokens * price.write_5m_factor
        + usage.write_1h_tokens * price.write_1h_factor
        + usage.read_tokens * price.read_factor
    )
    dollars = (billed_input * band.input_usd + usage.output_tokens * band.output_usd) / _MILLION
    return dollars * price.batch_factor if batch else dollars


def without_date(model: str) -> str:
    """The name of a model without the date of its snapshot: both cost the same."""
    return _DATED.sub("", model)
