"""What a person is told about a run that crashed: what happened, and what to do.

Prefect's worker, its runner and the run itself each report a crash in words of their own, which
name a signal or an exit code and no next step. One kind of sentence is made of all of them here.
"""

from __future__ import annotations

import re

LOST = "Its worker was killed, and the run with it."
"""What is reported of a run whose process is gone and that nobody else can report."""

_ENDED = "The run ended before it was done."
_KILLED = "The process of the run was killed (`kill -9`, or the machine had no memory left)."
_TOLD_TO_END = (
    "The process of the run was told to end: its worker died or was stopped, or somebody ended it."
)
_CAUSES = (
    (re.escape(LOST), "The process of the run is gone."),
    (r"could not (start|be started|be created)|Failed to submit", "The run could not be started."),
    (r"status code:? (-9|137)\b", _KILLED),
    (r"status code:? (-15|143)\b|termination signal|system exit call", _TOLD_TO_END),
    (r"status code:? (-2|130)\b|interrupt signal|cancelled by the runtime", "It was interrupted."),
    (
        r"Request to \S+ failed|contact the server",
        "The run lost the server, for longer than it waits.",
    ),
)
_HAS_HINT = re.compile(r"\b(Unavailable|Refused|Damaged): .+? Hint: ", re.DOTALL)


def explain(reported: str | None, run: str | None = None) -> str:
    """The message of a crashed run, with a hint that is an instruction.

    Args:
        reported: What whoever saw the crash says; kept whole. One that has a hint stays as it is.
        run: Id of the run, for the command that starts it again; `None` when several are meant.
    """
    said = (reported or "").strip()
    if _HAS_HINT.search(said):
        return said
    cause = next((cause for pattern, cause in _CAUSES if re.search(pattern, said)), _ENDED)
    kept = f" Reported: {said}" if said else ""
    named = run or "ID"
    return (
        f"Unavailable: {cause}{kept} Hint: Nothing is half done; run it again, with Retry on its "
        f"page in the UI or `prefect flow-run retry {named}`. Its log is on that page and in "
        f"`prefect flow-run logs {named}`; what ended it may be in the worker's own "
        "(`flowforge logs`). An agent job goes on by itself, in another run."
    )
