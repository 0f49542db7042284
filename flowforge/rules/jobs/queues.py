"""The queues of the pool that agent jobs run in, first served first."""

from __future__ import annotations

URGENT = "urgent"
DEFAULT = "default"
LOW = "low"
QUEUES = (URGENT, DEFAULT, LOW)


def queue_of(priority: int) -> str:
    """Where a job of a priority stands in line."""
    if priority > 0:
        return URGENT
    return LOW if priority < 0 else DEFAULT
