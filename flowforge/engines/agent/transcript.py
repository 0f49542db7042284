"""The story of a job: for people as Markdown, for programs a line of JSON for each turn."""

from __future__ import annotations

import json
from collections.abc import Sequence

from flowforge.engines.agent import conversation
from flowforge.engines.agent.hands import shown
from flowforge.engines.agent.tools import Call
from flowforge.rules.jobs.records import Job, Turn
from flowforge.rules.jobs.steps import Ending

_MOST_OF_RESULT = 4_000


def markdown(job: Job, ending: Ending, done: Sequence[Turn]) -> str:
    """What was asked, what was said and done, turn by turn, and how it ended."""
    money = job.money
    lines = [
        f"# Job {job.id}",
        "",
        f"{job.model}, {len(done)} turns, ${money.cost_usd:.6f}",
        "",
        "## Asked",
        "",
        job.spec.prompt,
    ]
    for turn in done:
        lines += ["", f"## Turn {turn.n}", *_turn(turn)]
    reason = f": {ending.reason}" if ending.reason else ""
    return "\n".join([*lines, "", "## End", "", f"{ending.state}{reason}", ""])


def record(job: Job, done: Sequence[Turn]) -> str:
    """The job's spec, then each turn as it is in the journal."""
    first = json.dumps({"job": job.id, "spec": job.spec.model_dump(mode="json")})
    return "\n".join([first, *(turn.model_dump_json() for turn in done)]) + "\n"


def _turn(turn: Turn) -> list[str]:
    if turn.reply is None:
        return ["", "(no reply was written)"]
    heard = conversation.hear(turn.reply)
    lines = ["", heard.text] if heard.text else []
    results = {call.tool_use_id: call for call in turn.tools}
    for call in heard.calls:
        lines += ["", f"**{call.name}**", *_fenced(_asked(call))]
        known = results.get(call.id)
        if known is None or known.result is None:
            lines += ["", "(not run)"]
            continue
        how = "failed" if known.is_error else "returned"
        lines += ["", f"{how} after {known.milliseconds} ms", *_fenced(_short(known.result))]
    return lines


def _asked(call: Call) -> str:
    if isinstance(call.input, dict) and isinstance(call.input.get("command"), str):
        return shown(call) if call.name != "bash" else str(call.input["command"])
    return shown(call)


def _short(result: str) -> str:
    if len(result) <= _MOST_OF_RESULT:
        return result
    half = _MOST_OF_RESULT // 2
    return f"{result[:half]}\n...\n{result[-half:]}"


def _fenced(text: str) -> list[str]:
    """A block of code whose fence nothing in it can end."""
    ticks = "```"
    while ticks in text:
        ticks += "`"
    return ["", ticks, text.rstrip("\n"), ticks]
