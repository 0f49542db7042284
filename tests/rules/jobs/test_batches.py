from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from flowforge.rules.jobs import batches
from flowforge.rules.jobs.spec import JobSpec

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


def a_spec(hours: float | None, **changes: Any) -> JobSpec:
    deadline = None if hours is None else NOW + timedelta(hours=hours)
    body: dict[str, Any] = {
        "prompt": "Do it.",
        "tools": [],
        "deadline": deadline,
        "limits": {"wall_seconds": 60},
    }
    return JobSpec.model_validate(body | changes)


@pytest.mark.parametrize(
    ("spec", "is_meant"),
    [
        (a_spec(24), True),
        (a_spec(23.9), False),
        (a_spec(None), False),
        (a_spec(24, tools=["bash"]), False),
    ],
)
def test_a_job_without_tools_and_with_a_day_left_goes_by_batch(
    spec: JobSpec, is_meant: bool
) -> None:
    assert batches.is_meant(spec, NOW) is is_meant
    wall = 24 * 3600 if is_meant else 60
    assert batches.wall_seconds(spec, NOW) == wall


def test_no_batch_is_made_that_might_end_too_late() -> None:
    spec = a_spec(30)
    assert batches.is_in_time(spec, NOW + timedelta(hours=7))
    assert not batches.is_in_time(spec, NOW + timedelta(hours=7, minutes=1))
    assert not batches.is_in_time(a_spec(None), NOW)


def test_a_batch_is_looked_at_soon_and_then_more_and_more_seldom() -> None:
    pauses = [batches.pause_seconds(age) for age in (0, 60, 300, 1200, 80_000)]
    assert pauses == [60, 60, 150, 600, 900]
