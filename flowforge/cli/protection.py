"""`flowforge backup status`, `hold`, `release`, `accept`: what was promised, what has to stay."""

from __future__ import annotations

from typing import Annotated

import typer

from flowforge import terminal
from flowforge.cli import backups, following
from flowforge.cli.backups import DatabaseOption, MaybeServer, StoreOption
from flowforge.rules import names
from flowforge.terminal import JsonFlag, ProfileOption

WORD = "say-of-copy/on-demand"

CopyName = Annotated[str, typer.Argument(help="name of the copy")]
FromServer = Annotated[str, typer.Option("--server", help="server it was taken from")]
Reason = Annotated[str, typer.Option("--reason", help="why, for the next person who looks")]


def register(app: typer.Typer) -> None:
    """Add the commands to `backup`."""
    backups.group.command("status")(status)
    backups.group.command("hold")(hold)
    backups.group.command("release")(release)
    backups.group.command("accept")(accept)


def status(
    server: MaybeServer = None, json: JsonFlag = False, profile: ProfileOption = None
) -> None:
    """Show what would be lost now, and how fast it is back."""
    from flowforge.rules import standing_reports

    with following.open_client(profile) as client:
        found = client.status().databases
    wanted = [one for one in found if server in (None, one.server)]
    if json:
        terminal.print_json({"databases": [one.model_dump(mode="json") for one in wanted]})
    elif not wanted:
        terminal.out.print("No copies yet. `flowforge backup run SERVER` makes one.")
    else:
        for row in standing_reports.rows(wanted):
            terminal.print_facts({name: value or None for name, value in row.items()})
            terminal.out.print()
        terminal.out.print(f"{standing_reports.headline(wanted)}.", markup=False)
    if any(one.verdict == "missed" for one in wanted):
        raise typer.Exit(1)


def hold(
    name: CopyName,
    server: FromServer,
    reason: Reason,
    database: DatabaseOption = None,
    store: StoreOption = None,
    json: JsonFlag = False,
    profile: ProfileOption = None,
) -> None:
    """Keep a copy until it is released."""
    _say("hold", name, server, reason, database, store, json, profile)


def release(
    name: CopyName,
    server: FromServer,
    reason: Reason,
    database: DatabaseOption = None,
    store: StoreOption = None,
    json: JsonFlag = False,
    profile: ProfileOption = None,
) -> None:
    """Let a held copy go when its time comes."""
    _say("release", name, server, reason, database, store, json, profile)


def accept(
    name: CopyName,
    server: FromServer,
    reason: Reason,
    database: DatabaseOption = None,
    store: StoreOption = None,
    json: JsonFlag = False,
    profile: ProfileOption = None,
) -> None:
    """Say that a copy is right to be far smaller than the last."""
    _say("accept", name, server, reason, database, store, json, profile)


def _say(
    word: str,
    name: str,
    server: str,
    reason: str,
    database: str | None,
    store: str | None,
    json: bool,
    profile: str | None,
) -> None:
    import getpass

    parameters = backups.database_parameters(server, database, store)
    parameters |= {"word": word, "copy": names.check_copy_name(name), "reason": reason}
    parameters["by"] = getpass.getuser()
    following.print_evidence(*following.run_to_end(profile, WORD, **parameters), json)
