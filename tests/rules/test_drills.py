"""Which copy a drill takes, what drills promise, and what a copy is asked."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, date, datetime, timedelta

import pytest

from flowforge.errors import Refused
from flowforge.rules import drills, proving
from flowforge.rules.backups import Copy, Level
from flowforge.rules.drills import Drill, choose_copy, drill_of, estimate
from flowforge.rules.holds import check_reason
from flowforge.rules.names import proof_key, read_proof_key
from flowforge.rules.proofs import Answer, Proof, ProofMark, Verdict
from flowforge.rules.proving import Question, is_expected, judge_answers
from tests.rules.test_retention import NOW, copy

TODAY = NOW.date()


def a_drill(days_ago: float, seconds: float | None, raw_bytes: int = 1_000) -> Drill:
    return Drill(
        server="shop",
        database="app",
        store="backups",
        copy_name="backup-20261124-060000",
        drilled_at=NOW - timedelta(days=days_ago),
        level=Level.COMPARED,
        verdict="proven",
        seconds=seconds,
        stored_bytes=10,
        raw_bytes=raw_bytes,
    )


def proven(days_ago: int, *, hours_ago: float) -> Copy:
    update = {"proven_at": NOW - timedelta(days=days_ago)}
    return copy(hours_ago).model_copy(update=update)


def test_the_newest_copy_goes_first_while_it_was_never_compared() -> None:
    copies = [copy(48, 1), copy(24, 3), copy(1, 1)]
    assert choose_copy(copies, TODAY) == copies[2]


def test_a_copy_that_failed_is_drilled_only_when_all_did() -> None:
    good, bad = proven(1, hours_ago=24), copy(1, failed=True)
    assert choose_copy([bad, good], TODAY) == good
    assert choose_copy([bad], TODAY) == bad
    with pytest.raises(Refused, match="no copy"):
        choose_copy([], TODAY)


def test_then_chance_chooses_the_same_on_the_same_day_in_any_order() -> None:
    copies = [proven(n, hours_ago=n * 24) for n in range(1, 30)]
    assert choose_copy(copies, TODAY) == choose_copy(copies[::-1], TODAY)
    days = [date(2026, 1, 1) + timedelta(days=n) for n in range(300)]
    assert len({choose_copy(copies, day).name for day in days}) > 15


def test_a_copy_older_than_the_window_is_left_alone() -> None:
    copies = [proven(0, hours_ago=1), proven(300, hours_ago=24 * 31)]
    days = [TODAY + timedelta(days=n) for n in range(100)]
    assert {choose_copy(copies, day) for day in days} == {copies[0]}


def test_the_likelier_copy_is_taken_more_often() -> None:
    newest, fresh = proven(0, hours_ago=1), proven(0, hours_ago=24 * 3)
    never = copy(24 * 25, 1).model_copy(update={"proven_at": None})
    taken = Counter(
        choose_copy(
            [c.model_copy(update={"database": f"db{n}"}) for c in (newest, fresh, never)], TODAY
        ).name
        for n in range(400)
    )
    assert taken[never.name] > 20 * max(1, taken[fresh.name])


def test_a_drill_remembers_what_a_restore_would_take() -> None:
    proof = Proof(
        copy_name=copy(1).name,
        level=Level.COMPARED,
        verdict="proven",
        checked_at=NOW,
        seconds=99,
        restore_seconds=60,
        phase_seconds={"load": 60, "compare": 12, "indexes": 27},
    )
    assert drill_of(copy(1), proof).seconds == 72
    assert drill_of(copy(1), proof.model_copy(update={"restore_seconds": None})).seconds is None
    assert Drill.model_validate_json(drill_of(copy(1), proof).to_json()) == drill_of(copy(1), proof)


def test_an_estimate_is_the_median_pace_of_the_last_five_drills_with_its_range() -> None:
    slow_past = [a_drill(100 + n, 1_000) for n in range(5)]
    last = [a_drill(n, seconds) for n, seconds in enumerate([10, 20, 5, 10, 8])]
    unmeasured = a_drill(0, None)
    found = estimate([*last, *slow_past, unmeasured], raw_bytes=2_000)
    assert found == drills.Estimate(seconds=20, fastest=10, slowest=40, drills=5)
    assert estimate([unmeasured], 1) is None


@pytest.mark.parametrize(
    ("expect", "value", "right"),
    [
        (None, True, True),
        (None, False, False),
        (None, 1, False),
        (">= 1000", 1000, True),
        ("> 1000", 1000, False),
        ("< 9", 10, False),
        ("<> 0", 1, True),
        ("!= 0", 0, False),
        ("= 2.50", 2.5, True),
        ("paid", "paid", True),
        ("> 2026-11-23", datetime(2026, 11, 24, tzinfo=UTC), True),
        ("<= b", "a", True),
        ("null", None, True),
        ("> 1", None, True),
        ("nan", float("nan"), True),
    ],
)
def test_an_answer_is_compared_as_number_or_text(
    expect: str | None, value: object, right: bool
) -> None:
    question = Question(name="q", sql="SELECT 1", expect=expect)
    assert is_expected(question, value) is right


def test_one_failed_answer_fails_and_one_unasked_leaves_it_open() -> None:
    def answer(verdict: Verdict) -> Answer:
        return Answer(name="q", verdict=verdict, answer="1", expected="2")

    assert judge_answers([answer("proven")]) == ("proven", None)
    assert judge_answers([answer("proven"), answer("inconclusive")])[0] == "inconclusive"
    mixed = [answer("inconclusive"), answer("failed")]
    assert judge_answers(mixed) == ("failed", "q: 1 (2) failed")


def test_a_long_answer_is_shortened() -> None:
    assert len(proving.shorten("x" * 5_000)) == 200
    assert proving.shorten("a\n b") == "a b"


def test_what_counts_of_a_proof_is_in_its_key() -> None:
    mark = ProofMark(Level.COMPARED, "inconclusive", NOW.replace(microsecond=7))
    key = proof_key("shop", "a/b", "backup-20261124-060000", mark)
    assert key.startswith("postgres/shop/a%2Fb/proofs/backup-20261124-060000/")
    assert read_proof_key(key) == mark
    assert read_proof_key(key.replace("-inconclusive", "")) is None


@pytest.mark.parametrize("text", ["", " \n ", "x" * 501])
def test_a_word_needs_a_reason(text: str) -> None:
    with pytest.raises(Refused, match="for a reason"):
        check_reason(text)
