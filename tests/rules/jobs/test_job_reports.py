"""A job in a line and on a page: what a person at night has to know."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from flowforge.rules.jobs import job_reports
from flowforge.rules.jobs.costs import Cost
from flowforge.rules.jobs.prices import Usage
from flowforge.rules.jobs.records import JobSummary, Money

COST = Cost(turns=(), usage=Usage(), usd=Decimal("0.5"), unknown_usd=Decimal(0))


def result(**changes: Any) -> dict[str, Any]:
    patch = {
        "proven": True,
        "why_not": None,
        "base": "b" * 40,
        "tree": "9f3c" + "0" * 36,
        "files": ["a.py", "b.py"],
        "insertions": 3,
        "deletions": 1,
    }
    made = {"turns": 7, "usd": "0.500000", "rehearsal": False, "text": "Done.", "patch": patch}
    return {**made, **changes}


def test_a_success_says_that_the_patch_applies_and_what_it_cost() -> None:
    line = job_reports.evidence("succeeded", None, result())
    assert line == "patch of 2 files applies (tree 9f3c000), 7 turns, $0.5000"


def test_a_rehearsal_never_looks_as_if_it_had_cost_money() -> None:
    line = job_reports.evidence("succeeded", None, result(rehearsal=True))
    assert line.endswith("$0.0000 rehearsal (priced $0.5000)")


def test_a_patch_that_does_not_apply_is_loud() -> None:
    broken = result()["patch"] | {"proven": False, "why_not": "a.py is another"}
    text = job_reports.summary("job_1", "failed", "why", result(patch=broken), COST)
    assert "does NOT apply" in text
    assert "a.py is another" in text


@pytest.mark.parametrize(
    ("state", "outcome"),
    [("succeeded", "done"), ("waiting", "waiting"), ("cancelled", "skipped"), ("stuck", "failed")],
)
def test_only_a_success_is_recorded_as_done(state: Any, outcome: str) -> None:
    assert job_reports.operation_outcome(state) == outcome


def test_money_that_may_have_been_billed_is_told_beside_what_was() -> None:
    lost = COST.model_copy(update={"unknown_usd": Decimal("0.25")})
    text = job_reports.summary("job_1", "succeeded", None, result(), lost)
    assert "at most $0.250000 may have been billed" in text


def test_no_change_is_no_patch_of_zero_files() -> None:
    unchanged = result()["patch"] | {"files": []}
    assert job_reports.evidence("succeeded", None, result(patch=unchanged)).startswith(
        "nothing changed, 7 turns"
    )


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"turns": 30}, 0.5),
        ({"money": Money(cost_usd=Decimal("1.8"))}, 0.9),
        ({"worked_seconds": 2700.0}, 0.75),
    ],
)
def test_the_limit_that_is_nearest_says_how_far_a_job_is(
    changes: dict[str, Any], part: float
) -> None:
    assert job_reports.progress(a_job(**changes), most_turns=60)[0] == part


def test_a_job_on_its_way_says_what_it_has_used_of_each_limit() -> None:
    job = a_job(turns=7, money=Money(cost_usd=Decimal("0.0312")), worked_seconds=90)
    said = "7 of 60 turns, $0.0312 of $2.00, 1.5 of 60 minutes at work"
    assert job_reports.progress(job, most_turns=60)[1] == said
    rehearsed = job.model_copy(update={"rehearsal": True})
    assert "$0.0000 rehearsal (priced $0.0312" in job_reports.progress(rehearsed, 60)[1]


def a_job(**changes: Any) -> JobSummary:
    now = datetime.now(UTC)
    nothing = dict.fromkeys(set(JobSummary.model_fields), None)
    numbers = dict.fromkeys(("turns", "events", "fence", "priority", "worked_seconds"), 0)
    known = {"id": "job_1", "tenant": "t", "model": "m", "state": "running", "labels": {}}
    facts = {"money": Money(), "usage": Usage(), "rehearsal": False, "callback": "none"}
    limits = {"limit_usd": Decimal(2), "wall_seconds": 3600.0, "created_at": now}
    return JobSummary.model_validate({**nothing, **numbers, **known, **facts, **limits, **changes})
