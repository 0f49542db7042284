"""The laws of retention, each by its number in the rule's own list."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowforge.errors import Refused
from flowforge.rules import names, retention, shrinking
from flowforge.rules.backups import Copy, Level
from flowforge.rules.retention import Decision, Retention, choose_expired, expired

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
ANY_NUMBER = Retention(max_delete_fraction=1)


def copy(hours_ago: float, level: int = 3, *, failed: bool = False, server: str = "shop") -> Copy:
    at = NOW - timedelta(hours=hours_ago)
    return Copy(
        server=server,
        database="app",
        name=names.copy_name(at),
        store="backups",
        snapshot_at=at,
        finished_at=at,
        size_bytes=1,
        raw_bytes=1,
        tables=1,
        rows=1,
        system_identifier="1",
        level=Level(0 if failed else level),
        failed=failed,
    )


def gone(copies: Sequence[Copy], policy: Retention = ANY_NUMBER, **more: object) -> set[str]:
    return set(expired(choose_expired(copies, policy, NOW, **more)))  # type: ignore[arg-type]


@st.composite
def catalogues(draw: st.DrawFn) -> list[Copy]:
    hours = draw(st.lists(st.integers(0, 24 * 800), min_size=1, max_size=60, unique=True))
    levels = draw(st.lists(st.integers(0, 3), min_size=len(hours), max_size=len(hours)))
    failed = draw(st.lists(st.booleans(), min_size=len(hours), max_size=len(hours)))
    return [
        copy(hour, level, failed=bad)
        for hour, level, bad in zip(hours, levels, failed, strict=True)
    ]


@settings(max_examples=200, deadline=None)
@given(catalogues(), st.randoms())
def test_law_1_the_order_of_the_input_does_not_matter(
    copies: list[Copy], rng: random.Random
) -> None:
    shuffled = rng.sample(copies, len(copies))
    assert choose_expired(shuffled, ANY_NUMBER, NOW) == choose_expired(copies, ANY_NUMBER, NOW)


@settings(max_examples=200, deadline=None)
@given(catalogues())
def test_laws_2_3_and_6_hold_for_any_catalogue(copies: list[Copy]) -> None:
    lost = gone(copies)
    left = [c for c in copies if c.name not in lost]
    for level in (Level.READ_BACK, Level.RESTORED, Level.COMPARED):
        reached = [c for c in copies if not c.failed and c.level >= level]
        if reached:
            newest = max(reached, key=lambda c: c.snapshot_at)
            assert newest in left
    proven = sum(not c.failed and c.level >= Level.RESTORED for c in copies)
    kept = sum(not c.failed and c.level >= Level.RESTORED for c in left)
    assert kept >= min(proven, ANY_NUMBER.min_proven)
    assert gone(left) == set()


@pytest.mark.parametrize(
    "newest",
    [copy(13), copy(1, 0), copy(1, failed=True)],
    ids=["too old", "never read back", "failed"],
)
def test_law_4_nothing_goes_without_a_good_new_copy(newest: Copy) -> None:
    assert gone([newest, *(copy(24 * d) for d in range(400, 900))]) == set()


def test_law_5_an_empty_or_incomplete_listing_deletes_nothing() -> None:
    assert choose_expired([], ANY_NUMBER, NOW) == ()
    many = [copy(24 * d) for d in range(900)]
    assert gone(many, listing_complete=False) == set()


def test_law_7_a_hold_beats_every_window() -> None:
    old = copy(24 * 890)
    copies = [old, *(copy(24 * d) for d in range(800))]
    assert old.name in gone(copies)
    held = [c.model_copy(update={"held": c is old}) for c in copies]
    assert old.name not in gone(held)


def test_law_8_a_copy_from_the_future_stays_and_counts_for_nothing() -> None:
    future = copy(-24 * 365)
    old = [copy(24 * d) for d in range(400, 500)]
    decisions = choose_expired([future, *old], ANY_NUMBER, NOW)
    assert decisions[0] == Decision(name=future.name, action="keep", reason="dated in the future")
    assert set(expired(decisions)) == set()  # the newest real copy is too old


def test_law_9_an_unproven_copy_fills_no_week_that_has_a_proven_one() -> None:
    proven, unproven = copy(24 * 50, 3), copy(24 * 50 - 1, 1)
    fresh = [copy(h) for h in (1, 2, 3)]
    lost = gone([proven, unproven, *fresh])
    assert proven.name not in lost
    assert unproven.name in lost


def test_law_10_buckets_are_those_of_utc() -> None:
    # Monday 00:30 in Berlin is still Sunday in UTC: two weeks, so both stay.
    policy = Retention(days=1, weekly=12, monthly=0, min_proven=1, max_delete_fraction=1)
    sunday = copy((NOW - datetime(2026, 10, 25, 23, 30, tzinfo=UTC)).total_seconds() / 3600)
    monday = copy((NOW - datetime(2026, 10, 26, 0, 30, tzinfo=UTC)).total_seconds() / 3600)
    assert gone([copy(1), sunday, monday], policy) == set()


def test_law_11_too_many_at_once_is_refused_with_their_names() -> None:
    copies = [copy(24 * d) for d in range(900)]
    with pytest.raises(Refused, match="copies would go at once"):
        choose_expired(copies, retention.STANDARD, NOW)


def test_law_12_two_databases_are_never_judged_together() -> None:
    with pytest.raises(Refused, match="several databases"):
        choose_expired([copy(1), copy(1, server="other")], ANY_NUMBER, NOW)


def test_law_13_nothing_goes_while_a_fall_is_not_accepted() -> None:
    copies = [copy(24 * d) for d in range(90)]
    emptied = [c.model_copy(update={"rows": 100_000}) for c in copies[1:]]
    newest = copies[0]
    fallen = shrinking.with_falls([newest, *emptied])
    assert fallen[0].fall == f"rows fell from 100,000 to 1 since {emptied[0].name}"
    assert gone(fallen) == set()
    reasons = {d.reason for d in choose_expired(fallen, ANY_NUMBER, NOW)}
    assert any(f"until somebody accepts {newest.name}" in reason for reason in reasons)
    accepted = shrinking.with_falls([newest, *emptied], accepted=[newest.name])
    assert len(gone(accepted)) > 30


@pytest.mark.parametrize(
    ("before", "after", "fell"),
    [
        ((14, 84_210), (14, 3), True),
        ((14, 84_210), (14, 8_500), False),
        ((14, 9), (14, 0), False),
        ((14, 84_210), (6, 84_210), True),
        ((14, 84_210), (13, 84_210), False),
        ((14, 3), (14, 84_210), False),
    ],
)
def test_a_fall_is_nine_rows_of_ten_or_half_the_tables(
    before: tuple[int, int], after: tuple[int, int], fell: bool
) -> None:
    def holding(what: tuple[int, int], hours: int) -> Copy:
        return copy(hours).model_copy(update={"tables": what[0], "rows": what[1]})

    assert bool(shrinking.fell(holding(before, 2), holding(after, 1))) is fell


def test_a_failed_copy_is_no_measure_for_a_fall() -> None:
    rows = {"rows": 100_000}
    full, broken, new = copy(3), copy(2, failed=True), copy(1)
    full, new = full.model_copy(update=rows), new.model_copy(update=rows)
    assert all(c.fall is None for c in shrinking.with_falls([new, broken, full]))


def test_thirty_days_alone_keep_thirty_days() -> None:
    policy = retention.THIRTY_DAYS.model_copy(update={"max_delete_fraction": 1})
    copies = [copy(24 * d + 1) for d in range(400)]
    assert len(copies) - len(gone(copies, policy)) == 30


def test_while_the_newest_copies_failed_all_stay_however_old() -> None:
    failed = [copy(24 * d, failed=True) for d in range(31, 36)]
    older = [copy(24 * d) for d in range(36, 90)]
    decisions = choose_expired([*failed, *older], ANY_NUMBER, NOW)
    assert expired(decisions) == ()
    assert all("nothing goes" in d.reason for d in decisions)


def test_a_copy_listed_twice_is_decided_once() -> None:
    copies = [copy(24 * d) for d in range(90)]
    twice = gone([*copies, *copies])
    assert twice == gone(copies)


def test_thirty_days_then_weeks_then_months() -> None:
    copies = [copy(6 * n + 1) for n in range(4 * 500)]
    kept = len(copies) - len(gone(copies))
    assert 4 * 30 + 7 + 9 <= kept <= 4 * 30 + 12 + 12 + 3


def test_ten_thousand_copies_are_decided_at_once() -> None:
    copies = [copy(n) for n in range(10_000)]
    clock = time.monotonic()
    decisions = choose_expired(copies, ANY_NUMBER, NOW)
    assert time.monotonic() - clock < 1
    assert len(decisions) == 10_000
    assert all(decision.reason for decision in decisions)
