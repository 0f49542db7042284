"""`flowforge job run` and `tail`: submit a job and see it through."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml

from flowforge import terminal
from flowforge.cli import following, job_files
from flowforge.errors import Refused
from flowforge.rules.jobs.states import exit_code
from flowforge.terminal import JsonFlag, ProfileOption

if TYPE_CHECKING:
    from flowforge.client import Job
    from flowforge.rules.jobs.records import Event

JobArgument = Annotated[str, typer.Argument(metavar="JOB", help="id of the job")]
Prompt = Annotated[
    str | None, typer.Argument(help="what Claude shall do; `-` reads it from standard input")
]
SpecFile = Annotated[
    str | None,
    typer.Option("--file", "-f", help="the job as YAML or JSON; `-` is standard input"),
]
Repo = Annotated[
    str | None, typer.Option("--repo", help="URL of a repository, or a folder: its files go")
]
Ref = Annotated[str | None, typer.Option("--ref", help="branch, tag or commit")]
Access = Annotated[
    str | None, typer.Option("--access", help="name of the saved access to the repository")
]
Usd = Annotated[float | None, typer.Option("--usd", help="US dollars it may cost")]
Turns = Annotated[int | None, typer.Option("--turns", help="turns it may take")]
Wall = Annotated[float | None, typer.Option("--wall", help="seconds it may be at work")]
Model = Annotated[str | None, typer.Option("--model", help="identifier of the model")]
Egress = Annotated[
    list[str] | None, typer.Option("--egress", help="host it may reach; may be repeated")
]
Sandbox = Annotated[
    str | None, typer.Option("--sandbox", help="sandbox profile its commands run in")
]
Labels = Annotated[list[str] | None, typer.Option("--label", help="name=value; may be repeated")]
Key = Annotated[
    str | None, typer.Option("--key", help="the same key and job again are the same job")
]
Wait = Annotated[bool, typer.Option(help="follow it until it has ended")]
Apply = Annotated[
    bool, typer.Option("--apply", help="after success, apply the patch to the folder")
]
_STDIN = "-"


def register(group: typer.Typer) -> None:
    """Add the commands to `flowforge job`."""
    group.command("run")(run_job)
    group.command("tail")(tail)


def run_job(
    prompt: Prompt = None,
    file: SpecFile = None,
    repo: Repo = None,
    ref: Ref = None,
    access: Access = None,
    usd: Usd = None,
    turns: Turns = None,
    wall: Wall = None,
    model: Model = None,
    egress: Egress = None,
    sandbox: Sandbox = None,
    label: Labels = None,
    key: Key = None,
    wait: Wait = True,
    apply: Apply = False,
    json: JsonFlag = False,
    profile: ProfileOption = None,
) -> int:
    """Give Claude a task; the exit code is 0 only if it succeeded."""
    if apply and not wait:
        raise Refused("--apply needs the job's end.", hint="Leave --no-wait out.")
    spec, folder = _read_spec(prompt, file), Path.cwd()
    if repo is not None:
        spec["workspace"], folder = job_files.workspace_of(repo, ref, access)
    _merge(spec, "limits", {"usd": usd, "turns": turns, "wall_seconds": wall})
    _merge(spec, "sandbox", {"profile": sandbox, "egress": egress or None})
    _merge(spec, "labels", read_labels(label or []))
    if model is not None:
        spec["model"] = model
    with following.open_client(profile) as client:
        job = client.jobs.submit(spec, key=key)
        if wait:
            return see_through(job, json, apply_to=folder if apply else None)
        _print_started(job, json)
        return 0


def tail(
    job: JobArgument,
    after: Annotated[int, typer.Option("--after", min=0, help="begin behind this event")] = 0,
    json: JsonFlag = False,
    profile: ProfileOption = None,
) -> int:
    """Show what happens in a job as it happens; exits as `run` does."""
    with following.open_client(profile) as client:
        return see_through(client.jobs.get(job), json, after=after)


def see_through(job: Job, as_json: bool, *, after: int = 0, apply_to: Path | None = None) -> int:
    """Follow a job to its end and print how it ended.

    Args:
        job: Which.
        as_json: Whether one object is printed, with every event.
        after: Number of the last event that is left out.
        apply_to: The folder its patch is applied to when it succeeded.

    Returns:
        The exit code that the end calls for.
    """
    from flowforge.cli import job_view

    seen = _follow(job, after, quiet=as_json)
    outcome = job.result()
    applies = outcome.succeeded and outcome.patch is not None and bool(outcome.patch.files)
    if apply_to is not None and applies:
        job_files.apply(job.patch(), apply_to)
        terminal.err.print(f"The patch was applied to {apply_to}.", markup=False)
    if as_json:
        terminal.print_json(
            {
                "job": job.facts.model_dump(mode="json", exclude={"spec", "result"}),
                "outcome": outcome.model_dump(mode="json"),
                "events": [event.model_dump(mode="json") for event in seen],
            }
        )
    else:
        job_view.print_outcome(outcome, is_applied=apply_to is not None and applies)
    return exit_code(outcome.state)


def read_labels(given: list[str]) -> dict[str, str]:
    """Labels as they were typed: `name=value`.

    Raises:
        Refused: One is of another form.
    """
    odd = [one for one in given if "=" not in one]
    if odd:
        raise Refused(f"{odd[0]!r} is no label.", hint="Give it as name=value.")
    return dict(one.split("=", 1) for one in given)


def _follow(job: Job, after: int, *, quiet: bool) -> list[Event]:
    from flowforge.cli import job_view

    terminal.err.print(f"{job.id} {job.state}", markup=False)
    seen = []
    shows = terminal.err.is_terminal and not quiet
    with terminal.err.status("waits for a worker") if shows else nullcontext() as spinner:
        teller = job_view.Teller(job.id, terminal.err, spinner)
        try:
            for event in job.events(after):
                if quiet:
                    seen.append(event)
                else:
                    teller.tell(event)
        except KeyboardInterrupt:
            goes_on = f"The job goes on: `flowforge job tail {job.id}` follows it, `cancel` ends it"
            terminal.err.print(goes_on, markup=False)
            raise
    return seen


def _read_spec(prompt: str | None, file: str | None) -> dict[str, Any]:
    if (prompt is None) == (file is None):
        raise Refused(
            "A job needs either a prompt or a file.",
            hint='Try `flowforge job run "Make the tests pass." --repo .`.',
        )
    if file is None:
        return {"prompt": sys.stdin.read() if prompt == _STDIN else prompt}
    try:
        text = sys.stdin.read() if file == _STDIN else Path(file).read_text(encoding="utf-8")
        spec = yaml.safe_load(text)
    except (OSError, ValueError, yaml.YAMLError) as error:
        said = str(error).splitlines()[0]
        raise Refused(f"{file} cannot be read: {said}", hint="Correct the file.") from error
    if not isinstance(spec, dict):
        raise Refused(f"{file} holds no job.", hint="Write fields, such as `prompt: ...`.")
    return spec


def _merge(spec: dict[str, Any], field: str, given: Mapping[str, object]) -> None:
    """Put what was given into a part of the spec, over what is there."""
    wanted = {name: value for name, value in given.items() if value is not None}
    if wanted:
        spec[field] = {**(spec.get(field) or {}), **wanted}


def _print_started(job: Job, as_json: bool) -> None:
    if as_json:
        terminal.print_json({"job": job.facts.model_dump(mode="json")})
        return
    terminal.out.print(job.id, markup=False)
    terminal.err.print(f"  -> flowforge job tail {job.id}", markup=False)
