"""`flowforge backup`: make a copy, list copies, show what is known of one, prove one again."""

from __future__ import annotations

import shlex
from datetime import UTC
from typing import TYPE_CHECKING, Annotated

import typer

from flowforge import terminal
from flowforge.cli import following
from flowforge.errors import Refused
from flowforge.rules import names
from flowforge.terminal import JsonFlag, ProfileOption

if TYPE_CHECKING:
    from flowforge.client import Copy, FlowForge, Proof

BACKUP = "backup-postgres/database-backup"
DRILL = "restore-drill/weekly"

Server = Annotated[str, typer.Argument(help="name the server was saved under")]
MaybeServer = Annotated[str | None, typer.Argument(help="name the server was saved under")]
Database = Annotated[str | None, typer.Argument(help="database; by default the server's own")]
DatabaseOption = Annotated[
    str | None, typer.Option("--database", help="database; by default the server's own")
]
StoreOption = Annotated[str | None, typer.Option("--store", help="name of the store")]
NoWait = Annotated[bool, typer.Option("--no-wait", help="start the run and leave it alone")]

group = typer.Typer(help="Copies of databases, and their proofs.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add `backup` to the command."""
    app.add_typer(group, name="backup")


@group.command("run")
def run_backup(
    server: Server,
    database: Database = None,
    store: StoreOption = None,
    also_in: Annotated[
        list[str] | None,
        typer.Option("--also-in", help="a further store that gets the copy; may be repeated"),
    ] = None,
    renamed_from: Annotated[
        str | None, typer.Option("--renamed-from", help="the database's name before, if it changed")
    ] = None,
    no_wait: NoWait = False,
    json: JsonFlag = False,
    profile: ProfileOption = None,
) -> None:
    """Copy a database, prove the copy, and print the evidence."""
    parameters: dict[str, object] = {**database_parameters(server, database, store)}
    if also_in:
        parameters["also_in"] = [names.check_system_name(one, kind="store") for one in also_in]
    if renamed_from is not None:
        parameters["renamed_from"] = names.check_database_name(renamed_from)
    if no_wait:
        following.print_started(following.start(profile, BACKUP, **parameters), json)
        return
    following.print_evidence(*following.run_to_end(profile, BACKUP, **parameters), json)


@group.command("list")
def list_copies(
    server: MaybeServer = None,
    database: Database = None,
    json: JsonFlag = False,
    profile: ProfileOption = None,
) -> None:
    """List the copies there are, newest first."""
    with following.open_client(profile) as client:
        copies = client.copies(server, database)
    if json:
        terminal.print_json({"copies": [copy.model_dump(mode="json") for copy in copies]})
        return
    if not copies:
        terminal.out.print("No copies yet. `flowforge backup run SERVER` makes one.")
        return
    columns = ("server", "database", "copy", "store", "age", "size", "rows", "level", "proven")
    terminal.print_table(columns, [_row(copy) for copy in copies])


@group.command("show")
def show_copy(
    name: Annotated[str, typer.Argument(help="name of the copy")],
    server: Annotated[str | None, typer.Option("--server", help="server it was taken from")] = None,
    database: DatabaseOption = None,
    json: JsonFlag = False,
    profile: ProfileOption = None,
) -> None:
    """Show what is known of a copy, and every examination of it."""
    names.check_copy_name(name)
    with following.open_client(profile) as client:
        copy = find_copy(client, name, server, database)
        copy, proofs = client.copy(copy.server, copy.database, copy.name)
    if json:
        shown = [proof.model_dump(mode="json") for proof in proofs]
        terminal.print_json({"copy": copy.model_dump(mode="json"), "proofs": shown})
        return
    _print_copy(copy)
    for proof in sorted(proofs, key=lambda proof: proof.checked_at):
        _print_proof(proof)


@group.command("verify")
def verify_copy(
    name: Annotated[str, typer.Argument(help="name of the copy, or `latest`")],
    server: Annotated[str, typer.Option("--server", help="server it was taken from")],
    database: DatabaseOption = None,
    store: StoreOption = None,
    no_wait: NoWait = False,
    json: JsonFlag = False,
    profile: ProfileOption = None,
) -> None:
    """Restore a copy on a scratch server and compare it."""
    parameters = database_parameters(server, database, store)
    parameters["copy"] = name if name == "latest" else names.check_copy_name(name)
    if no_wait:
        following.print_started(following.start(profile, DRILL, **parameters), json)
        return
    following.print_evidence(*following.run_to_end(profile, DRILL, **parameters), json)


def database_parameters(server: str, database: str | None, store: str | None) -> dict[str, str]:
    """The parameters that say which database is meant, and where its copies are.

    Raises:
        Refused: One of them is not a name.
    """
    given = {"server": names.check_system_name(server)}
    if database is not None:
        given["database"] = names.check_database_name(database)
    if store is not None:
        given["store"] = names.check_system_name(store, kind="store")
    return given


def find_copy(client: FlowForge, name: str, server: str | None, database: str | None) -> Copy:
    """Find the one copy that is meant.

    Raises:
        Refused: There is none, or there are several of that name.
    """
    found = [copy for copy in client.copies(server, database) if copy.name == name]
    if not found:
        raise Refused(
            f"There is no copy {name}.",
            hint="`flowforge backup list` shows the copies there are.",
        )
    if len({(copy.server, copy.database) for copy in found}) > 1:
        places = ", ".join(f"{terminal.show(copy.database)} on {copy.server}" for copy in found)
        raise Refused(
            f"There are several copies {name}: of {places}.",
            hint="Say which with --server and --database.",
        )
    return found[0]


def _row(copy: Copy) -> tuple[object, ...]:
    return (
        copy.server,
        copy.database,
        copy.name,
        copy.store,
        terminal.show_age(copy.snapshot_at),
        terminal.show_bytes(copy.size_bytes),
        f"{copy.rows:,}",
        "failed" if copy.failed else copy.level.label,
        f"{terminal.show_age(copy.proven_at)} ago" if copy.proven_at else "never",
    )


def _print_copy(copy: Copy) -> None:
    terminal.print_facts(
        {
            "copy": copy.name,
            "of": f"{copy.database} on {copy.server}",
            "store": copy.store,
            "snapshot": f"{copy.snapshot_at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC, "
            f"{terminal.show_age(copy.snapshot_at)} ago",
            "holds": f"{copy.tables} tables, {copy.rows:,} rows",
            "size": f"{terminal.show_bytes(copy.size_bytes)} stored, "
            f"{terminal.show_bytes(copy.raw_bytes)} as text",
            "level": "failed its last examination" if copy.failed else copy.level.label,
            "proven": f"{terminal.show_age(copy.proven_at)} ago" if copy.proven_at else "never",
            "made by": copy.flow_run_id,
            "warnings": "; ".join(copy.warnings),
            "restore": _restore_command(copy),
        }
    )


def _restore_command(copy: Copy) -> str:
    if copy.database == names.WHOLE:
        return f"flowforge redis plan {copy.server} --copy {copy.name}"
    database = shlex.quote(copy.database)
    return f"flowforge restore plan {copy.server} {database} --copy {copy.name}"


def _print_proof(proof: Proof) -> None:
    terminal.out.print()
    terminal.print_facts(
        {
            "examined": f"{proof.checked_at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC, "
            f"in {proof.seconds:.1f} s",
            "verdict": proof.summary(),
            "tables": f"{proof.tables_digested} of {proof.tables_total} compared by digest, "
            f"{proof.tables_counted} counted"
            if proof.tables_total
            else None,
            "restore took": None
            if proof.restore_seconds is None
            else f"{proof.restore_seconds:.1f} s",
            "remarks": "; ".join(proof.remarks),
        }
    )
    for difference in proof.differences:
        terminal.out.print(f"  differs: {terminal.show(difference)}", markup=False)
