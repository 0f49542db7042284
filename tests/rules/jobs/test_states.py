from __future__ import annotations

from flowforge.rules.jobs import states


def test_every_living_job_may_be_given_back_and_none_that_has_ended() -> None:
    for state in ("starting", "running", "finishing"):
        assert states.may_follow(state, "queued")
        assert states.may_follow(state, "waiting")
    for state in states.ENDS:
        assert not any(states.may_follow(state, other) for other in (*states.LIVE, *states.ENDS))


def test_a_job_that_works_ends_only_after_it_was_finished() -> None:
    for end in states.ENDS:
        assert states.may_follow("finishing", end)
        assert not states.may_follow("running", end)
        assert not states.may_follow("starting", end)


def test_only_a_success_exits_with_zero() -> None:
    assert [state for state in (*states.LIVE, *states.ENDS) if states.exit_code(state) == 0] == [
        "succeeded"
    ]
