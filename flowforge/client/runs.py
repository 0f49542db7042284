"""A run as the API tells of it, and what a failed one means for the person who waits for it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pydantic import JsonValue

from flowforge.errors import Damaged, FlowForgeError, Refused, Unavailable
from flowforge.rules.backups import Operation

FINAL_STATES = frozenset({"COMPLETED", "FAILED", "CRASHED", "CANCELLED"})
_TOLD = re.compile(r"\b(Unavailable|Refused|Damaged): (.+?) Hint: (.+)", re.DOTALL)
_KINDS: dict[str, type[FlowForgeError]] = {
    "Unavailable": Unavailable,
    "Refused": Refused,
    "Damaged": Damaged,
    "refused": Refused,
    "damaged": Damaged,
}


@dataclass(frozen=True)
class RunFacts:
    """One run as it was when last asked."""

    id: str
    name: str
    state: str
    """The state's own name, for example `Running` or `Skipped`."""

    state_type: str
    """The state's type: SCHEDULED, PENDING, RUNNING, COMPLETED, FAILED, CRASHED, CANCELLED ..."""

    state_message: str
    url: str
    """The run's page."""

    @property
    def is_finished(self) -> bool:
        """Whether the run has ended, well or not."""
        return self.state_type in FINAL_STATES


@dataclass(frozen=True)
class Step:
    """One step of a run."""

    name: str
    state: str
    state_type: str


def read_run(body: JsonValue, url: str) -> RunFacts:
    """Read a flow run of the API."""
    assert isinstance(body, dict)
    state = body.get("state")
    state = state if isinstance(state, dict) else {}
    return RunFacts(
        id=str(body["id"]),
        name=str(body.get("name")),
        state=str(state.get("name") or body.get("state_name") or "Unknown"),
        state_type=str(state.get("type") or body.get("state_type") or "UNKNOWN"),
        state_message=str(state.get("message") or ""),
        url=url,
    )


def read_steps(body: JsonValue) -> list[Step]:
    """Read the task runs of a flow run, in the order they started."""
    rows = [row for row in body if isinstance(row, dict)] if isinstance(body, list) else []
    rows.sort(key=lambda row: str(row.get("start_time") or row.get("expected_start_time") or "~"))
    return [
        Step(
            # Prefect appends a running number or a digest to a task's name.
            name=re.sub(r"-[0-9a-f]{1,4}$", "", str(row.get("name"))),
            state=str(row.get("state_name") or "Unknown"),
            state_type=str(row.get("state_type") or "UNKNOWN"),
        )
        for row in rows
    ]


def failure_of(run: RunFacts, operation: Operation | None) -> FlowForgeError:
    """Say why a run that did not complete failed, as the kind of error it failed with.

    Args:
        run: The finished run.
        operation: What the ledger recorded of it, if anything.
    """
    known = {"flow_run_id": run.id, "flow_run_name": run.name, "url": run.url}
    if told := _TOLD.search(run.state_message):
        kind, message, hint = told.groups()
        return _KINDS[kind](message, hint=hint.strip(), **known)
    if operation is not None and operation.outcome in _KINDS:
        return _KINDS[operation.outcome](operation.evidence, hint=f"Open {run.url}", **known)
    said = f": {run.state_message}" if run.state_message else "."
    if run.state_message.startswith("Validation of flow parameters failed"):
        return Refused(f"{run.name}{said}", hint="Correct the parameters, run it again.", **known)
    if run.state_type in ("CRASHED", "CANCELLED") or run.state == "TimedOut":
        return Unavailable(
            f"{run.name} ended {run.state}{said}",
            hint=f"Look at its log, then run it again: {run.url}",
            **known,
        )
    # Not one of the three kinds: a mistake nobody foresaw, so nothing is claimed about it.
    return FlowForgeError(
        f"{run.name} ended {run.state}{said}", hint=f"Read its log: {run.url}", **known
    )
