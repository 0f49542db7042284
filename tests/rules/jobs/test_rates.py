from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowforge.rules.jobs.rates import (
    CUT,
    EPISODE_SECONDS,
    GROWTH,
    LOWEST_FACTOR,
    Bucket,
    Dimension,
    Told,
    correct,
    give_back,
    new,
    put_off_growth,
    refuse,
    take,
)

NOW = 1_000_000.0
FULL = Bucket(arrival=0, limit=600, burst=5)
CALLS = st.lists(st.tuples(st.floats(0, 5), st.floats(0.1, 20)), min_size=1, max_size=60)


@given(CALLS, st.floats(0.1, 30))
def test_in_no_stretch_of_time_more_is_taken_than_flows_in(
    calls: list[tuple[float, float]], stretch: float
) -> None:
    bucket, now, starts = FULL, NOW, []
    for pause, amount in calls:
        now += pause
        bucket, wait = take(bucket, amount, now)
        starts.append((now + wait, amount))
    most = max(amount for _, amount in starts)
    for first, _ in starts:
        taken = sum(amount for start, amount in starts if first <= start <= first + stretch)
        # One that is larger than the bucket alone may start when it has waited for the rest.
        assert taken <= max(bucket.burst, most) + bucket.rate * stretch + 1e-3


@given(CALLS)
def test_nobody_overtakes(calls: list[tuple[float, float]]) -> None:
    bucket, now, starts = FULL, NOW, []
    for pause, _ in calls:
        now += pause
        bucket, wait = take(bucket, 1, now)
        starts.append(now + wait)
    assert starts == sorted(starts)


def test_a_full_bucket_makes_nobody_wait_until_it_is_empty() -> None:
    bucket, waits = FULL, []
    for _ in range(7):
        bucket, wait = take(bucket, 1, NOW)
        waits.append(wait)
    beyond = [1 / bucket.rate, 2 / bucket.rate]
    assert waits == pytest.approx([0] * 5 + beyond, abs=1e-6)


def test_what_is_given_back_can_be_taken_again() -> None:
    bucket, _ = take(FULL, 50, NOW)
    assert take(give_back(bucket, 50), 5, NOW)[1] == 0


def test_a_response_that_tells_nothing_new_changes_nothing() -> None:
    bucket, _ = take(FULL, 3, NOW)
    assert correct("requests", bucket, Told(limit=600, remaining=500), NOW) == bucket


@pytest.mark.parametrize(
    ("dimension", "burst"), [("requests", 5), ("input_tokens", 600), ("output_tokens", 600)]
)
def test_a_new_bucket_lets_a_large_call_through_but_no_crowd(
    dimension: Dimension, burst: float
) -> None:
    assert new(dimension, 600).burst == burst
    assert new("requests", 6).burst == 1


def test_fewer_left_than_we_thought_empties_the_bucket_and_more_does_not_fill_it() -> None:
    emptied = correct("requests", FULL, Told(limit=600, remaining=0), NOW)
    assert take(emptied, 1, NOW)[1] == pytest.approx(1 / FULL.rate)
    used, _ = take(FULL, 5, NOW)
    assert correct("requests", used, Told(limit=600, remaining=600), NOW).arrival == used.arrival


def test_a_new_limit_is_taken_over_with_its_burst() -> None:
    followed = correct("requests", FULL, Told(limit=1200, remaining=1200), NOW)
    assert (followed.limit, followed.burst) == (1200, 10)
    assert correct("requests", FULL, Told(limit=0, remaining=0), NOW).limit == 600
    used, _ = take(FULL, 30, NOW)
    faster = correct("requests", used, Told(limit=1200, remaining=1200), NOW)
    assert (faster.arrival - NOW) * faster.rate == pytest.approx(30)


def test_a_crowd_of_refusals_cuts_once() -> None:
    bucket = FULL
    for _ in range(30):
        bucket = refuse(bucket, 2, NOW)
    assert bucket.factor == CUT
    assert take(bucket, 1, NOW)[1] == pytest.approx(2 + 1 / bucket.rate)
    assert refuse(bucket, 2, NOW + EPISODE_SECONDS).factor == pytest.approx(CUT * CUT)


def test_the_rate_is_never_cut_to_nothing() -> None:
    bucket, now = FULL, NOW
    for _ in range(100):
        now += EPISODE_SECONDS
        bucket = refuse(bucket, 0, now)
    assert bucket.factor == LOWEST_FACTOR


def test_a_cut_rate_grows_back_when_it_is_quiet() -> None:
    told = Told(limit=600, remaining=600)
    bucket = refuse(FULL, 0, NOW)
    assert correct("requests", bucket, told, NOW + EPISODE_SECONDS - 1).factor == CUT
    grown = correct("requests", bucket, told, NOW + EPISODE_SECONDS)
    assert grown.factor == pytest.approx(CUT + GROWTH)
    assert correct("requests", grown, told, NOW + EPISODE_SECONDS + 1).factor == grown.factor
    put_off = put_off_growth(bucket, NOW + EPISODE_SECONDS - 1)
    assert correct("requests", put_off, told, NOW + EPISODE_SECONDS).factor == CUT
