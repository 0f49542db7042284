from __future__ import annotations

from datetime import date
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowforge.rules.jobs.budgets import clamp, estimate, judge
from flowforge.rules.jobs.prices import Band, Price, Usage, cost, without_date

OPUS = Price(
    model="claude-opus-5-5",
    from_date=date(2026, 1, 1),
    bands=(Band(input_usd=Decimal(4), output_usd=Decimal(20)),),
    read_factor=Decimal("0.05"),
    source="a test",
)
HAIKU = Price(
    model="claude-haiku-5-5",
    from_date=date(2026, 1, 1),
    bands=(
        Band(above_tokens=100_000, input_usd=Decimal("0.5"), output_usd=Decimal("2.5")),
        Band(input_usd=Decimal("0.1"), output_usd=Decimal("0.5")),
    ),
    source="a test",
)
TOKENS = st.integers(0, 500_000)
PRICES = st.sampled_from([OPUS, HAIKU])


@pytest.mark.parametrize(
    ("price", "usage", "dollars"),
    [
        (OPUS, Usage(input_tokens=1_000_000), "4"),
        (OPUS, Usage(write_5m_tokens=1_000_000), "5"),
        (OPUS, Usage(write_1h_tokens=1_000_000), "8"),
        (OPUS, Usage(read_tokens=1_000_000), "0.2"),
        (OPUS, Usage(output_tokens=1_000_000, thinking_tokens=900_000), "20"),
        (OPUS, Usage(input_tokens=1, output_tokens=1), "0.000024"),
        (HAIKU, Usage(input_tokens=100_000), "0.01"),
        (HAIKU, Usage(input_tokens=100_001), "0.0500005"),
        (HAIKU, Usage(read_tokens=100_001, output_tokens=1000), "0.00750005"),
        (HAIKU, Usage(), "0"),
    ],
)
def test_every_kind_of_token_has_its_price(price: Price, usage: Usage, dollars: str) -> None:
    assert cost(price, usage) == Decimal(dollars)
    assert cost(price, usage, batch=True) == Decimal(dollars) / 2


@pytest.mark.parametrize(
    ("model", "undated"),
    [
        ("claude-opus-4-5-20251101", "claude-opus-4-5"),
        ("claude-opus-5-5", "claude-opus-5-5"),
        ("claude-2099", "claude-2099"),
    ],
)
def test_a_snapshot_is_known_by_its_model(model: str, undated: str) -> None:
    assert without_date(model) == undated


@given(PRICES, TOKENS, TOKENS, TOKENS, TOKENS, TOKENS)
def test_an_estimate_is_never_below_the_bill(
    price: Price, plain: int, written: int, read: int, output: int, more: int
) -> None:
    usage = Usage(
        input_tokens=plain, write_5m_tokens=written, read_tokens=read, output_tokens=output
    )
    assert estimate(price, usage.prompt_tokens, output + more) >= cost(price, usage)
    hour = Usage(write_1h_tokens=written, output_tokens=output)
    assert estimate(price, written, output, long_cache=True) >= cost(price, hour)


@given(PRICES, TOKENS, st.integers(1, 64_000), st.decimals(0, 50, places=6))
def test_a_clamped_reply_is_the_longest_that_is_paid_for(
    price: Price, prompt: int, wanted: int, left: Decimal
) -> None:
    longest = clamp(price, prompt, wanted, left)
    if longest is None:
        assert estimate(price, prompt, 1) > left
        return
    assert estimate(price, prompt, longest) <= left
    assert longest == wanted or estimate(price, prompt, longest + 1) > left


def test_without_a_limit_nothing_is_clamped() -> None:
    assert clamp(OPUS, 10, 16_000, None) == 16_000


@pytest.mark.parametrize(
    ("left", "short", "least"),
    [
        (("1", None, None), "job", "1"),
        (("1", "0.5", None), "tenant", "0.5"),
        (("1", "0.5", "0.2"), "everyone", "0.2"),
    ],
)
def test_the_scarcest_budget_is_named(
    left: tuple[str, str | None, str | None], short: str, least: str
) -> None:
    job, tenant, everyone = (None if each is None else Decimal(each) for each in left)
    assert job is not None
    refused = judge(Decimal(2), job, tenant, everyone, granted=False)
    assert (refused.short, refused.left_usd) == (short, Decimal(least))
    assert judge(Decimal(2), job, tenant, everyone, granted=True).short is None


def test_usage_adds_up() -> None:
    one = Usage(input_tokens=1, write_5m_tokens=2, write_1h_tokens=3, read_tokens=4)
    both = one + Usage(output_tokens=5, thinking_tokens=3)
    assert both.prompt_tokens == 10
    assert (both.output_tokens, both.thinking_tokens) == (5, 3)
