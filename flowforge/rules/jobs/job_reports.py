"""What people read of a job that has ended: a line, a page, a table of costs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flowforge.rules.jobs.costs import Cost
from flowforge.rules.jobs.records import JobSummary
from flowforge.rules.jobs.states import State

_TITLES: dict[str, str] = {
    "failed": "Failed",
    "refused": "Refused by the model",
    "max_turns": "Out of turns",
    "max_tokens": "Out of tokens",
    "budget_exceeded": "Out of budget",
    "context_exceeded": "Out of context",
    "timed_out": "Timed out",
    "stuck": "Stuck",
    "cancelled": "Cancelled",
}
_MOST_FILES = 30
REHEARSAL = "rehearsal: no model was asked"


def title(state: State) -> str:
    """The state as people read it in a list of runs."""
    return _TITLES.get(state, state.replace("_", " ").capitalize())


def operation_outcome(state: State) -> str:
    """How the ledger records the operation that a job was."""
    outcomes = {"succeeded": "done", "waiting": "waiting", "cancelled": "skipped"}
    return outcomes.get(state, "failed")


def evidence(state: State, reason: str | None, result: Mapping[str, Any]) -> str:
    """A job in a line."""
    if not result:
        return f"{title(state)}: {reason}" if reason else title(state)
    line = _facts(result)
    if state != "succeeded":
        return f"{title(state)}{f': {reason}' if reason else ''}; {line}"
    return line


def progress(job: JobSummary, most_turns: int) -> tuple[float, str]:
    """How much of its limits a job has used, from 0 to 1, and what of each.

    Args:
        job: As it stands.
        most_turns: Its limit of turns.
    """
    shares = (
        job.turns / most_turns,
        float(job.money.cost_usd / job.limit_usd),
        job.worked_seconds / job.wall_seconds,
    )
    usd = f"${job.money.cost_usd:.4f} of ${job.limit_usd:.2f}"
    if job.rehearsal:
        usd = f"$0.0000 rehearsal (priced {usd})"
    minutes = f"{job.worked_seconds / 60:.1f} of {job.wall_seconds / 60:.0f} minutes"
    return max(shares), f"{job.turns} of {most_turns} turns, {usd}, {minutes} at work"


def summary(
    job: str, state: State, reason: str | None, result: Mapping[str, Any], cost: Cost
) -> str:
    """A page about a job."""
    headline = "Succeeded" if state == "succeeded" else title(state)
    lines = [f"# {headline}", "", f"**{_facts(result)}**" if result else "", ""]
    if reason:
        lines += [f"**Why:** {reason}", ""]
    if result.get("rehearsal"):
        lines += [f"> {REHEARSAL}. Set ANTHROPIC_API_KEY to ask a real one.", ""]
    if text := str(result.get("text") or ""):
        lines += ["## What it says", "", *(f"> {line}" for line in text.splitlines()), ""]
    if patch := result.get("patch"):
        lines += _changes(patch)
    if cost.unknown_usd:
        lines += [
            f"Beyond ${cost.usd:.6f}, at most ${cost.unknown_usd:.6f} may have been billed for "
            "calls whose end nobody saw.",
            "",
        ]
    return "\n".join(
        [
            *lines,
            "## Go on from here",
            "",
            "```",
            "# take the patch; read what it did, turn by turn; what each turn cost",
            f"flowforge job patch {job} | git apply",
            f"flowforge job replay {job}",
            f"flowforge job cost {job}",
            "```",
            "",
        ]
    )


def cost_rows(cost: Cost) -> list[dict[str, Any]]:
    """The table of costs, a row a turn and the sum."""
    rows: list[dict[str, Any]] = [
        {
            "turn": row.turn,
            "model": row.model,
            "calls": row.calls,
            "input": row.usage.input_tokens,
            "written to cache": row.usage.write_5m_tokens + row.usage.write_1h_tokens,
            "read from cache": row.usage.read_tokens,
            "output": row.usage.output_tokens,
            "USD": f"{row.usd:.6f}",
        }
        for row in cost.turns
    ]
    total = {
        "turn": "all",
        "model": "",
        "calls": sum(row.calls for row in cost.turns),
        "input": cost.usage.input_tokens,
        "written to cache": cost.usage.write_5m_tokens + cost.usage.write_1h_tokens,
        "read from cache": cost.usage.read_tokens,
        "output": cost.usage.output_tokens,
        "USD": f"{cost.usd:.6f}",
    }
    return [*rows, total]


def _facts(result: Mapping[str, Any]) -> str:
    parts = [_patch(result.get("patch")), _many(result["turns"], "turn"), _money(result)]
    return ", ".join(parts)


def _patch(patch: Mapping[str, Any] | None) -> str:
    if patch is None:
        return "no patch"
    if not patch["files"]:
        return "nothing changed"
    files = _many(len(patch["files"]), "file")
    if not patch["proven"]:
        return f"patch of {files} does NOT apply"
    return f"patch of {files} applies (tree {patch['tree'][:7]})"


def _money(result: Mapping[str, Any]) -> str:
    usd = float(result["usd"])
    return f"$0.0000 rehearsal (priced ${usd:.4f})" if result.get("rehearsal") else f"${usd:.4f}"


def _many(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _changes(patch: Mapping[str, Any]) -> list[str]:
    files = patch["files"]
    if not files:
        return ["Nothing was changed.", ""]
    proof = (
        f"Applied to a fresh copy of the base ({patch['base'][:12]}) it gives the tree "
        f"{patch['tree'][:12]}, which is what the job left."
        if patch["proven"]
        else f"**It does not apply:** {patch['why_not']}"
    )
    shown = [f"- `{path}`" for path in files[:_MOST_FILES]]
    if len(files) > _MOST_FILES:
        shown.append(f"- and {len(files) - _MOST_FILES} more")
    counts = f"+{patch['insertions']} -{patch['deletions']} lines"
    return [f"## Patch: {_many(len(files), 'file')}, {counts}", "", proof, "", *shown, ""]
