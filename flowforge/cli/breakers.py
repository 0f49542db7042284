"""`flowforge breaker`: accounts that are not used for now, and using one again."""

from __future__ import annotations

import getpass
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from flowforge import terminal
from flowforge.cli import following
from flowforge.rules.jobs import accounts
from flowforge.terminal import JsonFlag, ProfileOption

if TYPE_CHECKING:
    from flowforge.client import FlowForge
    from flowforge.rules.jobs.records import Breaker, JobSummary

Account = Annotated[str, typer.Argument(metavar="ACCOUNT", help="name of the account")]

group = typer.Typer(help="Accounts the provider does not accept for now.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add `breaker` to the command."""
    app.add_typer(group, name="breaker")


@group.command("list")
def list_breakers(json: JsonFlag = False, profile: ProfileOption = None) -> None:
    """List accounts that are not used, and how many jobs wait for each."""
    with following.open_client(profile) as client:
        found = client.jobs.breakers()
    if json:
        terminal.print_json({"breakers": [one.model_dump(mode="json") for one in found]})
        return
    if not found:
        terminal.out.print("No breaker is open: every account is used.")
        return
    columns = ("account", "open for", "tried again", "jobs", "models", "why")
    rows = [
        (
            one.account,
            terminal.show_age(one.opened_at),
            tried_again(one),
            one.jobs,
            " ".join(one.models),
            one.reason,
        )
        for one in found
    ]
    terminal.print_table(columns, rows)
    for one in found:
        terminal.err.print(f"  -> {way_out(one)}", markup=False)


@group.command("close")
def close(
    account: Account,
    by: Annotated[str | None, typer.Option("--by", help="who you are")] = None,
    json: JsonFlag = False,
    profile: ProfileOption = None,
) -> None:
    """Use an account again; the jobs that wait for it go on."""
    with following.open_client(profile) as client:
        closed = client.jobs.close_breaker(account, by=by or getpass.getuser())
    if json:
        terminal.print_json(closed.model_dump(mode="json"))
        return
    if not closed.was_open:
        said = f"No breaker is open for {account}; `flowforge breaker list` lists those that are."
        terminal.out.print(terminal.show(said), markup=False)
        return
    terminal.print_facts({"used again": account, "jobs that go on": closed.jobs})


def tell_of_held(client: FlowForge, jobs: Iterable[JobSummary]) -> None:
    """Say on standard error why jobs wait for an account, and what lets them go on."""
    held = {accounts.holder(job.state, job.reason) for job in jobs} - {None}
    for one in client.jobs.breakers() if held else ():
        if one.account in held:
            said = f"Jobs wait for the account {one.account}, tried again {tried_again(one)}"
            terminal.err.print(terminal.show(f"{said}: {one.reason}"), markup=False)
            terminal.err.print(f"  -> {way_out(one)}", markup=False)


def tried_again(breaker: Breaker) -> str:
    """When an account is used again."""
    if breaker.until is None:
        return "when it is closed"
    return f"at {breaker.until.astimezone():%H:%M:%S}"


def way_out(breaker: Breaker) -> str:
    """What to do about an open breaker."""
    name = terminal.show(breaker.account)
    return f"put its key or its limit right, then `flowforge breaker close {name}`"
