"""Which jobs go by batch, at half the price, and how they wait for it."""

from __future__ import annotations

from datetime import datetime, timedelta

from flowforge.rules.jobs.spec import JobSpec

DAY = timedelta(hours=24)
"""A batch has ended after so long, or has expired."""

FIRST_PAUSE_SECONDS = 60.0
LONGEST_PAUSE_SECONDS = 900.0
_ENTRY = timedelta(hours=1)
"""So long a job may have stood in the queue before."""


def is_meant(spec: JobSpec, created_at: datetime) -> bool:
    """Whether a job goes by batch: it has no tools, and at least a day."""
    return not spec.tools and spec.deadline is not None and spec.deadline - created_at >= DAY


def is_in_time(spec: JobSpec, now: datetime) -> bool:
    """Whether a batch that is made now ends before the job has to, as well as anybody can tell."""
    return spec.deadline is not None and spec.deadline - now >= DAY - _ENTRY


def wall_seconds(spec: JobSpec, created_at: datetime) -> float:
    """How long a job may be at work; one that goes by batch has until its deadline."""
    if is_meant(spec, created_at) and spec.deadline is not None:
        return (spec.deadline - created_at).total_seconds()
    return spec.limits.wall_seconds


def pause_seconds(age_seconds: float) -> float:
    """When to look at a batch again: soon while it is young, more and more seldom later."""
    return min(max(age_seconds / 2, FIRST_PAUSE_SECONDS), LONGEST_PAUSE_SECONDS)
