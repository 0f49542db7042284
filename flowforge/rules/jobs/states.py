"""The states of a job, and which may follow which.

    queued > starting > running <> waiting > finishing > an end

`waiting` gives the worker's place back; who resumes the job starts a new attempt from the journal.
"""

from __future__ import annotations

from typing import Literal, get_args

Live = Literal["queued", "starting", "running", "waiting", "finishing"]
End = Literal[
    "succeeded",
    "failed",
    "refused",
    "max_turns",
    "max_tokens",
    "budget_exceeded",
    "context_exceeded",
    "timed_out",
    "stuck",
    "cancelled",
]
State = Live | End

LIVE: tuple[State, ...] = get_args(Live)
ENDS: tuple[State, ...] = get_args(End)
_NEXT: dict[State, frozenset[State]] = {
    "queued": frozenset({"starting", "failed", "cancelled", "timed_out"}),
    "starting": frozenset({"queued", "running", "finishing", "waiting"}),
    "running": frozenset({"queued", "waiting", "finishing"}),
    "waiting": frozenset({"queued", "starting", "running", "finishing", "cancelled", "timed_out"}),
    "finishing": frozenset({"queued", "waiting", *ENDS}),
}


def is_end(state: State) -> bool:
    """Whether nothing follows this state any more."""
    return state in ENDS


def may_follow(before: State, after: State) -> bool:
    """Whether a job may go from one state to another; staying is no step."""
    return after in _NEXT.get(before, frozenset())


def exit_code(state: State) -> int:
    """What a command that waited for a job exits with: only `succeeded` is 0."""
    return 0 if state == "succeeded" else 1
