"""Three kinds of failure, told apart by what the operator does next.

    FlowForgeError
    ├── Unavailable   the outside did not answer; wait, it is safe to repeat (the only kind retried)
    ├── Refused       a rule said no; nothing was touched; do what the hint says
    │   └── Busy      another run does the same right now; this one is skipped
    └── Damaged       something was touched and is not as promised; a person looks

An agent that fails its task, a probe that sees a 500 or a drill that misses its target is a
*result*, not one of these.
"""

from __future__ import annotations


class FlowForgeError(Exception):
    """What went wrong, what to do about it, and the facts that matter.

    Args:
        message: What happened, in one sentence, without secrets.
        hint: An instruction for the person who reads it.
        facts: Names and figures worth keeping beside the message.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str, **facts: object) -> None:
        super().__init__(message, hint, facts)
        self.message = message
        self.hint = hint
        self.facts = facts

    def __str__(self) -> str:
        return f"{self.message} Hint: {self.hint}"

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle with the keyword arguments, which `Exception` alone would lose."""
        return _rebuild, (type(self), self.message, self.hint, self.facts)


def _rebuild(
    kind: type[FlowForgeError], message: str, hint: str, facts: dict[str, object]
) -> FlowForgeError:
    return kind(message, hint=hint, **facts)


class Unavailable(FlowForgeError):
    """A system outside did not answer. Nothing is decided yet; trying again is safe."""

    exit_code = 1


class Refused(FlowForgeError):
    """A rule said no before anything was touched. Trying again changes nothing."""

    exit_code = 3


class Damaged(FlowForgeError):
    """Something was touched and is not as promised. A person has to look."""

    exit_code = 4


class Busy(Refused):
    """Another run does the same right now and wins; this one ends as skipped, not as failed."""
