"""Agent jobs as people read them: what happens, what was said, how it ended.

What models and tools write is shown so that it cannot do anything to a terminal.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.status import Status

from flowforge import terminal
from flowforge.rules.jobs import accounts
from flowforge.rules.jobs.records import Event, JobSummary
from flowforge.rules.jobs.states import is_end

if TYPE_CHECKING:
    from flowforge.client import JobDetails, Outcome, SpokenTurn

_INDENT = " " * 10
_MOST_LINES = 12
_MOST_COLUMNS = 160


class Teller:
    """Tells what happens in a job, event by event.

    Args:
        job: Its id.
        console: Where.
        spinner: Shows what the model is writing just now.
    """

    def __init__(self, job: str, console: Console, spinner: Status | None = None) -> None:
        self._job = job
        self._console = console
        self._spinner = spinner
        self._writing = ""
        self._given: dict[object, object] = {}

    def tell(self, event: Event) -> None:
        """Tell one event; kinds that are not known here are left out."""
        data = event.data
        if event.kind == "text":
            self._show_writing(str(data.get("delta", "")))
            return
        said = self._spell(event.kind, data)
        if said is not None:
            first, *more = said.splitlines() or [""]
            self._print(f"{event.at.astimezone():%H:%M:%S}  {line(first)}")
            for one in more:
                self._print(f"{_INDENT}{line(one)}")

    def _spell(self, kind: str, data: Mapping[str, Any]) -> str | None:
        spelled: dict[str, Callable[[Mapping[str, Any]], str | None]] = {
            "turn": self._turn,
            "tool": self._tool,
            "state": _state,
            "approval": self._approval,
            "retry": _retry,
            "egress": _egress,
            "note": lambda told: str(told.get("text", "")),
            "ended": _state,
        }
        return spelled[kind](data) if kind in spelled else None

    def _turn(self, data: Mapping[str, Any]) -> str | None:
        if data.get("state") == "asking":
            self._show_writing("", again=True)
            return None
        tools = ", ".join(map(str, data.get("tools") or ())) or str(data.get("stop_reason", ""))
        head = f"turn {data.get('n')}  {dollars(data.get('usd'))}  {tools}"
        return "\n".join([head, *lines(str(data.get("text") or ""))])

    def _tool(self, data: Mapping[str, Any]) -> str | None:
        given = self._given.setdefault(data.get("tool_use_id"), data.get("input"))
        if data.get("state") != "done":
            self._show_writing(f"{data.get('name')}: {given or ''}", again=True)
            return None
        how = "failed" if data.get("is_error") else "ok"
        seconds = float(data.get("ms") or 0) / 1000
        head = f"  {data.get('name')}  {first_line(given)}  {how}, {seconds:.1f} s"
        return "\n".join([head, *(f"  | {one}" for one in lines(str(data.get("output") or "")))])

    def _approval(self, data: Mapping[str, Any]) -> str:
        if data.get("state") != "asked":
            return f"{data.get('state')}: {first_line(data.get('command'))}"
        way = f"flowforge job approve {self._job} --call {data.get('tool_use_id')}"
        return f"waits for a person: {first_line(data.get('command'))}\n-> {way}"

    def _show_writing(self, delta: str, *, again: bool = False) -> None:
        self._writing = delta if again else self._writing + delta
        if self._spinner is not None:
            shown = self._writing.strip().rpartition("\n")[2][-_MOST_COLUMNS:]
            self._spinner.update(terminal.show(shown).replace("[", r"\["))

    def _print(self, text: str) -> None:
        self._console.print(text, markup=False)


def _state(data: Mapping[str, Any]) -> str:
    state, reason = str(data.get("state")), data.get("reason")
    said = f"{state}: {reason}" if reason else state
    account = accounts.holder(state, reason)
    return said if account is None else f"{said}\n-> flowforge breaker close {account}"


def _retry(data: Mapping[str, Any]) -> str:
    seconds = float(data.get("wait_seconds") or 0)
    return f"asks again in {seconds:.0f} s: {data.get('why')}"


def _egress(data: Mapping[str, Any]) -> str:
    times, refusal = int(data.get("times") or 1), data.get("refusal")
    often = f", {times} times" if times > 1 else ""
    if refusal is not None:
        return f"was kept from {data.get('host')}{often}: {refusal}"
    sent, received = (float(data.get(f"{way}_bytes") or 0) for way in ("sent", "received"))
    sizes = f"{terminal.show_bytes(sent)} out, {terminal.show_bytes(received)} in"
    return f"reached {data.get('host')}{often}: {sizes}"


def line(text: str) -> str:
    """A line that does nothing to a terminal, of bounded length."""
    shown = terminal.show(text.expandtabs(4))
    return shown if len(shown) <= _MOST_COLUMNS else shown[: _MOST_COLUMNS - 1] + "…"


def lines(text: str) -> list[str]:
    """The first lines of a text, and how many are left out."""
    found = text.strip("\n").splitlines()
    if len(found) <= _MOST_LINES:
        return found
    return [*found[:_MOST_LINES], f"… {len(found) - _MOST_LINES} more lines"]


def first_line(text: object) -> str:
    """The first line of what a tool was given."""
    whole = str(text or "").strip()
    first, newline, _ = whole.partition("\n")
    return f"{first} …" if newline else first


def dollars(amount: object) -> str:
    """An amount of money to a hundredth of a cent."""
    return f"${Decimal(str(amount or 0)):.4f}"


def cost(job: JobSummary) -> str:
    """What a job cost so far; a rehearsal cost nothing, and its figure is what it would have."""
    return f"{dollars(job.money.cost_usd)}{' (rehearsal)' if job.rehearsal else ''}"


def at_work(job: JobSummary) -> str:
    """How long a job has worked, of how long it may."""
    worked, may = map(terminal.show_seconds, (job.worked_seconds, job.wall_seconds))
    return f"{worked} of {may}"


def print_outcome(outcome: Outcome, *, is_applied: bool = False) -> None:
    """Print how a job ended, and what to do now, unless its patch was applied."""
    if text := outcome.text.strip():
        for one in text.splitlines():
            terminal.out.print(terminal.show(one), markup=False)
        terminal.out.print()
    terminal.print_facts(
        {
            "job": outcome.job,
            "state": outcome.state,
            "reason": outcome.reason,
            "turns": outcome.turns,
            "cost": dollars(outcome.usd) + (" (rehearsal)" if outcome.rehearsal else ""),
            "took": None if outcome.seconds is None else terminal.show_seconds(outcome.seconds),
            "patch": describe_patch(outcome),
        }
    )
    if is_applied:
        return
    if outcome.patch is not None and outcome.patch.files:
        terminal.err.print(f"  -> flowforge job patch {outcome.job} | git apply", markup=False)
    elif not outcome.succeeded:
        terminal.err.print(f"  -> flowforge job replay {outcome.job}", markup=False)


def describe_patch(outcome: Outcome) -> str | None:
    """A patch in a line."""
    patch = outcome.patch
    if patch is None:
        return None
    if not patch.files:
        return "nothing was changed"
    many = f"{len(patch.files)} file{'s' if len(patch.files) > 1 else ''}"
    proof = "proven to apply" if patch.proven else f"NOT proven to apply: {patch.why_not}"
    return f"{many}, +{patch.insertions} -{patch.deletions} lines, {proof}"


def print_details(job: JobDetails) -> None:
    """Print all that is known of a job."""
    terminal.print_facts(
        {
            "job": job.id,
            "prompt": first_line(job.spec.get("prompt")),
            "state": job.state + (f": {job.reason}" if job.reason else ""),
            "model": job.model,
            "turns": job.turns,
            "cost": f"{cost(job)} of {dollars(job.limit_usd)}",
            "at work": at_work(job),
            "tenant": job.tenant,
            "labels": labels(job.labels),
            "submitted": _moment(job.created_at),
            "started": _moment(job.started_at),
            "ended": _moment(job.ended_at),
            "cancelled by": job.cancel_requested_by,
            "forked from": job.forked_from and f"{job.forked_from}, turn {job.forked_turn}",
            "left behind": ", ".join(one.name for one in job.artifacts),
        }
    )
    for attempt in job.attempts:
        how = attempt.end_reason or ("ended" if attempt.ended_at else "works")
        said = f"attempt {attempt.fence} on {attempt.worker}: {how}"
        terminal.out.print(terminal.show(said), markup=False)
    for approval in job.approvals:
        said = f"turn {approval.turn}, {approval.tool_use_id}: {approval.state}: {approval.command}"
        terminal.out.print(line(said), markup=False)
    if not is_end(job.state):
        terminal.err.print(f"  -> flowforge job tail {job.id}", markup=False)


def print_turn(turn: SpokenTurn) -> None:
    """Print a turn whole: what was said, and every tool with what it was given and answered."""
    stop = turn.stop_reason or "no reply yet"
    terminal.out.print(f"--- turn {turn.n}, {turn.model}, {stop}", style="bold", markup=False)
    _print_whole(turn.text)
    for tool in turn.tools:
        how = "failed" if tool.is_error else "ok" if tool.done else "may or may not have run"
        seconds = "" if tool.milliseconds is None else f", {tool.milliseconds / 1000:.1f} s"
        terminal.out.print(f"{tool.name} ({how}{seconds})", style="bold", markup=False)
        _print_whole(_given(tool.input), "  $ ")
        _print_whole(tool.result or "", "  | ")


def labels(given: Mapping[str, str]) -> str:
    """Labels in a line."""
    return " ".join(f"{name}={value}" for name, value in sorted(given.items()))


def _given(text: str) -> str:
    """What a tool was given: of a command the command, else all of it."""
    try:
        given = json.loads(text)
    except ValueError:
        return text
    return str(given["command"]) if isinstance(given, dict) and set(given) == {"command"} else text


def _print_whole(text: str, before: str = "") -> None:
    for one in text.splitlines():
        terminal.out.print(before + terminal.show(one.expandtabs(4)), markup=False)


def _moment(moment: datetime | None) -> str | None:
    if moment is None:
        return None
    return f"{moment.astimezone():%Y-%m-%d %H:%M:%S}, {terminal.show_age(moment)} ago"
