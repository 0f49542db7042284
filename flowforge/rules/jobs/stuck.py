"""Whether a job goes round in circles.

The same commands with the same results, again and again, are a circle. Waiting is none: a command
that sleeps may find the same many times.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

from flowforge.rules.values import Value

NUDGE_AT = 4
STUCK_AT = 6
LONGEST_CIRCLE = 3
MOST_LOOKED_AT = STUCK_AT * LONGEST_CIRCLE
"""No more calls than the last so many decide."""

REASON = f"the same was done {STUCK_AT} times with the same result"
NUDGE = (
    "You have done the same {times} times and seen the same each time. Doing it again will not "
    "help. Find out why, try something else, or say what keeps you from going on."
)
_WAITS = re.compile(r"(^|[\s;&|(])(sleep|wait|watch|timeout)\b|--(follow|wait|watch)\b|tail -\w*f")


class Done(Value):
    """One call of a tool and what came of it."""

    name: str
    input: str
    result: str

    @property
    def waits(self) -> bool:
        """Whether its purpose is to let time pass."""
        return bool(_WAITS.search(self.input))


Verdict = Literal["fine", "nudge", "stuck"]


def count_repeats(done: Sequence[Done]) -> int:
    """How often the last calls were the same, as a circle of up to `LONGEST_CIRCLE`."""
    most = 1
    for length in range(1, LONGEST_CIRCLE + 1):
        circle = list(done[-length:])
        if len(circle) < length or any(call.waits for call in circle):
            continue
        times = 1
        while done[-length * (times + 1) : len(done) - length * times] == circle:
            times += 1
        most = max(most, times)
    return most


def judge(done: Sequence[Done]) -> Verdict:
    """Say whether to go on, to tell the model, or to stop; asked after every call."""
    times = count_repeats(done)
    if times >= STUCK_AT:
        return "stuck"
    return "nudge" if times == NUDGE_AT else "fine"
