"""What follows a reply of the model.

Only a reply that ended by itself, with nothing left to do, is a success. A tool named in a reply
that was cut off or refused never runs: its input may be half of what was meant.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Literal

from flowforge.rules.jobs.spec import Limits
from flowforge.rules.jobs.states import End
from flowforge.rules.values import Value

MOST_PAUSES = 20
CUT_OFF = "Your reply was cut off at its limit of tokens. Go on from where it stopped."
NOT_RUN = (
    "The reply was cut off at its limit of tokens, so this was not run. Say it again, shorter."
)
LAST_CALL = (
    "About {seconds:.0f} seconds are left before this job is stopped. Finish now: leave the files "
    "in a state that is of use, and say what is not done."
)
WARNED_SHARE = 0.1

Follow = Literal["tools", "pause", "continue", "end"]
"""`tools`: run them. `pause`: send the reply back unchanged. `continue`: ask for the rest once."""


class Ending(Value):
    """How a job ends, and why."""

    state: End
    reason: str | None = None


class Step(Value):
    """What to do after a reply."""

    follow: Follow
    ending: Ending | None = None


def after_reply(
    stop_reason: str,
    *,
    uses_tools: bool,
    earlier: Sequence[str] = (),
    category: str | None = None,
) -> Step:
    """Say what follows a reply.

    Args:
        stop_reason: Why it ended.
        uses_tools: Whether it names tools to run.
        earlier: The stop reasons of the replies before it, oldest first.
        category: Why it was refused.
    """
    if stop_reason == "tool_use" and uses_tools:
        return Step(follow="tools")
    if stop_reason in ("end_turn", "stop_sequence") and not uses_tools:
        return _end("succeeded")
    if stop_reason == "pause_turn":
        pauses = len(earlier) - len(_without_last(earlier, "pause_turn"))
        if pauses < MOST_PAUSES:
            return Step(follow="pause")
        return _end("failed", f"the model paused {pauses + 1} times in a row")
    if stop_reason == "max_tokens":
        if earlier and earlier[-1] == "max_tokens":
            return _end("max_tokens", "two replies in a row reached their limit of tokens")
        return Step(follow="continue")
    if stop_reason == "refusal":
        return _end("refused", category or "the model gave no category")
    if stop_reason == "model_context_window_exceeded":
        return _end("context_exceeded", "the conversation fills the model's context window")
    return _end("failed", f"the model stopped for a reason unknown here: {stop_reason}")


def _end(state: End, reason: str | None = None) -> Step:
    return Step(follow="end", ending=Ending(state=state, reason=reason))


def _without_last(reasons: Sequence[str], wanted: str) -> Sequence[str]:
    left = list(reasons)
    while left and left[-1] == wanted:
        left.pop()
    return left


def before_turn(limits: Limits, *, turns: int, output_tokens: int) -> Ending | None:
    """Whether a limit forbids another turn; money and time are looked at elsewhere."""
    if turns >= limits.turns:
        return Ending(state="max_turns", reason=f"{turns} of {limits.turns} turns are used")
    if limits.output_tokens is not None and output_tokens >= limits.output_tokens:
        used = f"{output_tokens:,} of {limits.output_tokens:,} tokens of output are used"
        return Ending(state="max_tokens", reason=used)
    return None


def seconds_left(
    wall_seconds: float, worked_seconds: float, deadline: datetime | None, now: datetime
) -> float:
    """How long the job may go on; negative when it is over.

    Args:
        wall_seconds: Its limit of time at work.
        worked_seconds: How long its attempts have worked; what it waited does not count.
        deadline: When it has to be over, waiting or not.
        now: With its zone.
    """
    left = wall_seconds - worked_seconds
    if deadline is not None:
        left = min(left, (deadline - now).total_seconds())
    return left
