"""`flowforge approve`: answer a run that waits for a person."""

from __future__ import annotations

import getpass
from typing import Annotated

import typer

from flowforge.cli import following
from flowforge.terminal import JsonFlag, ProfileOption


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("approve")(approve)


def approve(
    run: Annotated[str, typer.Argument(help="id of the run that waits")],
    plan: Annotated[str, typer.Option("--plan", help="hash of the plan you read in its report")],
    refuse: Annotated[bool, typer.Option("--refuse", help="say no instead")] = False,
    by: Annotated[str | None, typer.Option("--by", help="who you are")] = None,
    note: Annotated[str, typer.Option("--note", help="why, for whoever reads this later")] = "",
    no_wait: Annotated[bool, typer.Option("--no-wait", help="answer and leave it alone")] = False,
    json: JsonFlag = False,
    profile: ProfileOption = None,
) -> None:
    """Say yes or no to a run that waits for a person."""
    with following.open_client(profile) as client:
        answered = client.approve(
            run,
            agree=not refuse,
            plan_hash=plan,
            approver=by or getpass.getuser(),
            note=note,
        )
        if no_wait:
            following.print_started(answered, json)
            return
        following.print_evidence(answered, following.follow(answered), json)
