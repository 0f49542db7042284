"""What a failed run means for whoever waits for it."""

from __future__ import annotations

import pytest
from pydantic import JsonValue

from flowforge.client.runs import RunFacts, failure_of, read_steps
from flowforge.errors import Damaged, FlowForgeError, Refused, Unavailable
from tests.client.values import an_operation

CASES = [
    ("FAILED", "Failed", "Flow run encountered an exception: Refused: No. Hint: Do.", Refused),
    ("FAILED", "Failed", "Flow run encountered an exception: Damaged: No. Hint: Do.", Damaged),
    (
        "FAILED",
        "Failed",
        "Task run encountered an exception Unavailable: No. Hint: Do.",
        Unavailable,
    ),
    ("FAILED", "Failed", "Validation of flow parameters failed with error: x", Refused),
    ("FAILED", "TimedOut", "Flow run exceeded timeout of 5 second(s)", Unavailable),
    ("CRASHED", "Crashed", "Process exited with status -9", Unavailable),
    ("CANCELLED", "Cancelled", "", Unavailable),
    ("FAILED", "Failed", "Flow run encountered an exception: ValueError: x", FlowForgeError),
]


def a_run(state_type: str, state: str, message: str) -> RunFacts:
    return RunFacts("r-1", "brave-otter", state, state_type, message, "http://ui/r-1")


@pytest.mark.parametrize(("state_type", "state", "message", "kind"), CASES)
def test_a_failure_has_the_kind_it_failed_with(
    state_type: str, state: str, message: str, kind: type[FlowForgeError]
) -> None:
    error = failure_of(a_run(state_type, state, message), None)
    assert type(error) is kind
    assert error.facts["url"] == "http://ui/r-1"
    assert error.hint


def test_the_message_and_the_hint_are_the_runs_own() -> None:
    text = "Flow run encountered an exception: Refused: It is\nbusy. Hint: Wait\nfor it."
    error = failure_of(a_run("FAILED", "Failed", text), None)
    assert (error.message, error.hint) == ("It is\nbusy.", "Wait\nfor it.")


@pytest.mark.parametrize(
    ("outcome", "kind"),
    [("refused", Refused), ("damaged", Damaged), ("failed", FlowForgeError)],
)
def test_the_ledger_knows_the_kind_when_the_state_does_not(
    outcome: str, kind: type[FlowForgeError]
) -> None:
    error = failure_of(a_run("FAILED", "Failed", "1/3 states failed."), an_operation("r", outcome))
    assert type(error) is kind


def test_steps_are_told_in_the_order_they_started() -> None:
    rows: list[JsonValue] = [
        {"name": "compare-3f2", "state_name": "Pending", "state_type": "PENDING"},
        {
            "name": "read back",
            "state_name": "Running",
            "state_type": "RUNNING",
            "start_time": "2026-11-24T06:00:02Z",
        },
        {
            "name": "dump-a01",
            "state_name": "Completed",
            "state_type": "COMPLETED",
            "start_time": "2026-11-24T06:00:01Z",
        },
    ]
    assert [step.name for step in read_steps(rows)] == ["dump", "read back", "compare"]
