from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from flowforge.rules.jobs import steps
from flowforge.rules.jobs.spec import Limits
from flowforge.rules.jobs.states import End

NOW = datetime(2026, 11, 24, tzinfo=UTC)


@pytest.mark.parametrize(
    ("reason", "uses_tools", "earlier", "follow"),
    [
        ("tool_use", True, (), "tools"),
        ("pause_turn", False, (), "pause"),
        ("pause_turn", True, ("pause_turn",) * 19, "pause"),
        ("pause_turn", False, ("pause_turn",) * 20 + ("end_turn",), "pause"),
        ("max_tokens", False, (), "continue"),
        ("max_tokens", True, ("max_tokens", "tool_use"), "continue"),
    ],
)
def test_a_job_goes_on_after_such_replies(
    reason: str, uses_tools: bool, earlier: tuple[str, ...], follow: steps.Follow
) -> None:
    step = steps.after_reply(reason, uses_tools=uses_tools, earlier=earlier)
    assert (step.follow, step.ending) == (follow, None)


@pytest.mark.parametrize(
    ("reason", "uses_tools", "earlier", "state"),
    [
        ("end_turn", False, (), "succeeded"),
        ("stop_sequence", False, ("tool_use",), "succeeded"),
        ("end_turn", True, (), "failed"),
        ("tool_use", False, (), "failed"),
        ("something_new", False, (), "failed"),
        ("pause_turn", False, ("pause_turn",) * 20, "failed"),
        ("max_tokens", True, ("max_tokens",), "max_tokens"),
        ("refusal", True, (), "refused"),
        ("model_context_window_exceeded", True, (), "context_exceeded"),
    ],
)
def test_a_job_ends_with_such_replies_and_only_one_kind_is_a_success(
    reason: str, uses_tools: bool, earlier: tuple[str, ...], state: End
) -> None:
    step = steps.after_reply(reason, uses_tools=uses_tools, earlier=earlier)
    assert step.ending is not None
    assert (step.follow, step.ending.state) == ("end", state)
    assert (step.ending.reason is None) == (state == "succeeded")


def test_why_it_was_refused_is_said() -> None:
    step = steps.after_reply("refusal", uses_tools=False, category="cyber")
    assert step.ending is not None
    assert step.ending.reason == "cyber"


def test_no_turn_is_begun_that_a_limit_forbids() -> None:
    limits = Limits(turns=3, output_tokens=100)
    assert steps.before_turn(limits, turns=2, output_tokens=99) is None
    turns = steps.before_turn(limits, turns=3, output_tokens=0)
    tokens = steps.before_turn(limits, turns=0, output_tokens=100)
    assert turns and turns.state == "max_turns"
    assert tokens and tokens.state == "max_tokens"


def test_a_job_has_the_time_that_its_limit_and_its_deadline_leave() -> None:
    assert steps.seconds_left(60, 10, None, NOW) == 50
    assert steps.seconds_left(60, 10, NOW + timedelta(seconds=20), NOW) == 20
    assert steps.seconds_left(60, 10, NOW - timedelta(seconds=1), NOW) == -1
    assert steps.seconds_left(60, 70, NOW + timedelta(seconds=20), NOW) == -10
