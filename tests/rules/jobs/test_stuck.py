from __future__ import annotations

import pytest

from flowforge.rules.jobs import stuck
from flowforge.rules.jobs.stuck import Done


def done(input: str, result: str = "same") -> Done:
    return Done(name="bash", input=input, result=result)


def test_the_fourth_time_is_told_and_the_sixth_ends_it() -> None:
    verdicts = [stuck.judge([done("make")] * times) for times in range(1, 7)]
    assert verdicts == ["fine", "fine", "fine", "nudge", "fine", "stuck"]


@pytest.mark.parametrize("circle", [("a", "b"), ("a", "b", "c")])
def test_a_circle_of_several_commands_counts_as_one(circle: tuple[str, ...]) -> None:
    calls = [done(command) for command in circle]
    assert stuck.count_repeats(calls * 5) == 5
    assert stuck.judge(calls * 6) == "stuck"
    assert stuck.judge(calls * 6 + [done("z")]) == "fine"
    assert len(calls) * 6 <= stuck.MOST_LOOKED_AT


def test_another_result_or_another_input_is_no_repetition() -> None:
    assert stuck.judge([done("make", str(n)) for n in range(9)]) == "fine"
    assert stuck.judge([done(f"make {n}") for n in range(9)]) == "fine"
    assert stuck.judge([]) == "fine"


@pytest.mark.parametrize(
    "command",
    [
        "sleep 5",
        "cd x; sleep 5",
        "while true; do sleep 1; done",
        "kubectl get pods --watch",
        "tail -f log",
        "timeout 9 make",
        "make\nsleep 1",
        "(sleep 1)",
    ],
)
def test_to_wait_is_no_circle(command: str) -> None:
    assert stuck.judge([done(command)] * 20) == "fine"


def test_a_name_that_only_looks_like_waiting_is_none() -> None:
    assert stuck.judge([done("cat asleep.txt")] * 6) == "stuck"
