"""`flowforge job`: give Claude a task, follow it, take what it made."""

from __future__ import annotations

import getpass
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flowforge import terminal
from flowforge.cli import breakers, following, job_files, job_run
from flowforge.cli.job_run import JobArgument
from flowforge.errors import Refused
from flowforge.rules.jobs.states import ENDS, LIVE
from flowforge.terminal import JsonFlag, ProfileOption

if TYPE_CHECKING:
    from flowforge.client import JobDetails
    from flowforge.rules.jobs.records import Approval, JobSummary
    from flowforge.rules.jobs.states import State

By = Annotated[str | None, typer.Option("--by", help="who you are")]

group = typer.Typer(help="Agent jobs: a task in, a proven patch out.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add `job` to the command."""
    job_run.register(group)
    app.add_typer(group, name="job")


@group.command("list")
def list_jobs(
    state: Annotated[
        list[str] | None, typer.Option("--state", help="only in this state; may be repeated")
    ] = None,
    label: Annotated[
        list[str] | None, typer.Option("--label", help="only with this name=value")
    ] = None,
    tenant: Annotated[str | None, typer.Option("--tenant", help="only of this tenant")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=200, help="how many")] = 30,
    json: JsonFlag = False,
    profile: ProfileOption = None,
) -> None:
    """List jobs, newest first."""
    labels = job_run.read_labels(label or [])
    with following.open_client(profile) as client:
        found = client.jobs.list(
            states=_check_states(state or []), labels=labels, tenant=tenant, limit=limit
        )
        if json:
            terminal.print_json({"jobs": [one.model_dump(mode="json") for one in found]})
            return
        if not found:
            terminal.out.print('No jobs. `flowforge job run "..."` submits one.')
            return
        _print_jobs(found)
        breakers.tell_of_held(client, found)


def _print_jobs(found: Sequence[JobSummary]) -> None:
    from flowforge.cli import job_view

    columns = ("job", "state", "age", "turns", "cost", "model", "labels")
    rows = [
        (
            one.id,
            one.state,
            terminal.show_age(one.created_at),
            one.turns,
            job_view.cost(one),
            one.model,
            job_view.labels(one.labels),
        )
        for one in found
    ]
    terminal.print_table(columns, rows)


@group.command("get")
def get(job: JobArgument, json: JsonFlag = False, profile: ProfileOption = None) -> None:
    """Show all that is known of a job."""
    from flowforge.cli import job_view

    with following.open_client(profile) as client:
        found = client.jobs.get(job).refresh()
        if json:
            terminal.print_json({"job": found.model_dump(mode="json")})
            return
        job_view.print_details(found)
        breakers.tell_of_held(client, [found])


@group.command("cancel")
def cancel(
    job: JobArgument,
    by: By = None,
    json: JsonFlag = False,
    profile: ProfileOption = None,
) -> None:
    """Ask that a job ends; what it did until then is kept."""
    with following.open_client(profile) as client:
        found = client.jobs.get(job)
        found.cancel(by or getpass.getuser())
    if json:
        told = found.facts.model_dump(mode="json", exclude={"spec", "result"})
        terminal.print_json({"job": told})
        return
    terminal.print_facts({"job": found.id, "state": found.state})


@group.command("patch")
def patch(
    job: JobArgument,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="file it is written to")
    ] = None,
    apply: Annotated[
        Path | None, typer.Option("--apply", help="folder it is applied to, if it applies cleanly")
    ] = None,
    json: JsonFlag = False,
    profile: ProfileOption = None,
) -> None:
    """Write what a job changed to standard output, for `git apply`."""
    with following.open_client(profile) as client:
        content = client.jobs.get(job).patch()
    if apply is not None:
        job_files.apply(content, apply)
    if output is not None:
        try:
            output.write_bytes(content)
        except OSError as error:
            raise Refused(
                f"{output} cannot be written: {error.strerror}.", hint="Choose another file."
            ) from error
    if json:
        text = content.decode(errors="surrogateescape")
        terminal.print_json({"job": job, "size_bytes": len(content), "patch": text})
    elif output is None and apply is None:
        sys.stdout.buffer.write(content)  # it holds files as they are, whatever their encoding
        sys.stdout.flush()


@group.command("replay")
def replay(
    job: JobArgument,
    after: Annotated[int, typer.Option("--after", min=0, help="begin behind this turn")] = 0,
    json: JsonFlag = False,
    profile: ProfileOption = None,
) -> None:
    """Print what was said and done, turn by turn, from the journal."""
    from flowforge.cli import job_view

    with following.open_client(profile) as client:
        found = client.jobs.get(job)
        turns = found.transcript(after)
    if json:
        said = [turn.model_dump(mode="json") for turn in turns]
        terminal.print_json({"job": job, "state": found.state, "turns": said})
        return
    for turn in turns:
        job_view.print_turn(turn)
    why = f": {found.facts.reason}" if found.facts.reason else ""
    terminal.out.print(f"--- {found.state}{terminal.show(why)}", style="bold", markup=False)


@group.command("cost")
def cost(job: JobArgument, json: JsonFlag = False, profile: ProfileOption = None) -> None:
    """Show what a job cost, turn by turn, to the millionth of a dollar."""
    from flowforge.rules.jobs import job_reports

    with following.open_client(profile) as client:
        asked = client.jobs.get(job)
        found = asked.cost()
    if json:
        told = {"cost": found.model_dump(mode="json"), "rehearsal": asked.facts.rehearsal}
        terminal.print_json({"job": job, **told})
        return
    rows = job_reports.cost_rows(found)
    terminal.print_table(tuple(rows[0]), [tuple(row.values()) for row in rows])
    if asked.facts.rehearsal:
        terminal.err.print("A rehearsal: nothing was billed; this is what it would have cost.")
    if found.unknown_usd:
        said = f"Up to ${found.unknown_usd:.6f} more may be billed for calls whose end nobody saw."
        terminal.err.print(said, markup=False)


@group.command("delete")
def delete(job: JobArgument, json: JsonFlag = False, profile: ProfileOption = None) -> None:
    """Delete an ended job; what it spent stays counted."""
    with following.open_client(profile) as client:
        client.jobs.get(job).delete()
    if json:
        terminal.print_json({"deleted": job})
        return
    terminal.out.print(f"{job} is deleted.", markup=False)


@group.command("approve")
def approve(
    job: JobArgument,
    call: Annotated[
        str | None, typer.Option("--call", help="id of the tool call, if several wait")
    ] = None,
    refuse: Annotated[bool, typer.Option("--refuse", help="say no instead")] = False,
    by: By = None,
    json: JsonFlag = False,
    profile: ProfileOption = None,
) -> None:
    """Say yes or no to a command of a job that waits for a person."""
    with following.open_client(profile) as client:
        found = client.jobs.get(job)
        asked = _find_asked(found.refresh(), call)
        answered = found.approve(
            asked.turn, asked.tool_use_id, granted=not refuse, by=by or getpass.getuser()
        )
    if json:
        terminal.print_json({"job": job, "approval": answered.model_dump(mode="json")})
        return
    terminal.print_facts({"job": job, "command": asked.command, "answer": answered.state})


def _find_asked(job: JobDetails, call: str | None) -> Approval:
    waiting = [one for one in job.approvals if one.state == "asked"]
    if call is not None:
        waiting = [one for one in job.approvals if one.tool_use_id == call]
    if not waiting:
        raise Refused(
            f"No command of {job.id} waits for an answer.",
            hint=f"See `flowforge job get {job.id}`.",
        )
    if len(waiting) > 1:
        calls = "; ".join(f"{one.tool_use_id}: {terminal.show(one.command)}" for one in waiting)
        raise Refused(f"Several commands wait: {calls}.", hint="Say which with --call.")
    return waiting[0]


def _check_states(given: list[str]) -> list[State]:
    known = {str(state): state for state in (*LIVE, *ENDS)}
    odd = [one for one in given if one not in known]
    if odd:
        raise Refused(f"{odd[0]!r} is no state of a job.", hint=f"States are: {', '.join(known)}.")
    return [known[one] for one in given]
