"""Which failures are worth another try: only `Unavailable`, and only a few times."""

from __future__ import annotations

from typing import Any

from prefect.client.schemas.objects import State, TaskRun
from prefect.tasks import Task

from flowforge.errors import Unavailable

RETRIES = 2
DELAYS_SECONDS: list[float] = [3, 15]


def only_unavailable(_task: Task[Any, Any], _run: TaskRun, state: State[Any]) -> bool:
    """Tell Prefect to try again when the outside did not answer, and never otherwise."""
    return isinstance(state.result(raise_on_failure=False), Unavailable)
