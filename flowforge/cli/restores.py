"""`flowforge restore`: see what a restore would do, agree to it by its hash, take it back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

import typer

from flowforge import terminal
from flowforge.cli import backups, following, planned
from flowforge.cli.backups import Database, DatabaseOption, Server, StoreOption
from flowforge.errors import Refused
from flowforge.rules import names
from flowforge.terminal import JsonFlag, ProfileOption

RESTORE = "restore-postgres/on-demand"
TABLES = "restore-tables/on-demand"

CopyOption = Annotated[str, typer.Option("--copy", help="name of the copy, or `latest`")]
ToServer = Annotated[
    str | None, typer.Option("--to-server", help="server to restore to; by default the copy's own")
]
ToDatabase = Annotated[
    str | None, typer.Option("--to-database", help="database to restore as; by default the same")
]

Tables = Annotated[
    list[str] | None,
    typer.Option("--table", help="only this table, beside the live one; may be repeated"),
]
Masks = Annotated[
    list[str] | None,
    typer.Option("--mask", help="TABLE.COLUMN=SQL, seen by nobody before it; may be repeated"),
]

group = typer.Typer(help="Bring a copy back: plan, apply, undo.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add `restore` to the command."""
    app.add_typer(group, name="restore")


@group.command("plan")
def plan_restore(
    server: Server,
    database: Database = None,
    copy: CopyOption = "latest",
    to_server: ToServer = None,
    to_database: ToDatabase = None,
    store: StoreOption = None,
    table: Tables = None,
    mask: Masks = None,
    json: JsonFlag = False,
    profile: ProfileOption = None,
) -> None:
    """Say what a restore would do and lose; print the hash to apply."""
    parameters = _parameters(server, database, copy, to_server, to_database, store)
    deployment, chosen = _chosen(parameters, table, mask)
    run, operation = following.run_to_end(profile, deployment, action="plan", **chosen)
    if json:
        terminal.print_json({"run": following.run_json(run), **operation.facts})
    elif table:
        planned.print_tables(operation.facts, chosen)
    else:
        planned.print_plan(operation.facts, chosen)


@group.command("apply")
def apply_restore(
    server: Server,
    plan: Annotated[str, typer.Option("--plan", help="hash that `restore plan` printed")],
    database: Database = None,
    copy: CopyOption = "latest",
    to_server: ToServer = None,
    to_database: ToDatabase = None,
    store: StoreOption = None,
    table: Tables = None,
    mask: Masks = None,
    json: JsonFlag = False,
    profile: ProfileOption = None,
) -> None:
    """Restore as planned: load beside the live one, compare, swap."""
    parameters = _parameters(server, database, copy, to_server, to_database, store)
    deployment, chosen = _chosen(parameters, table, mask)
    run, operation = following.run_to_end(
        profile, deployment, action="apply", plan_hash=plan, **chosen
    )
    following.print_evidence(run, operation, json)
    if not json:
        planned.print_done(operation.facts, to_server or server)


@group.command("undo")
def undo_restore(
    restore_id: Annotated[str, typer.Argument(help="what `restore apply` printed")],
    server: Annotated[str, typer.Option("--server", help="server that was restored to")],
    database: DatabaseOption = None,
    tables: Annotated[
        bool, typer.Option("--tables", help="it was a restore of single tables")
    ] = False,
    json: JsonFlag = False,
    profile: ProfileOption = None,
) -> None:
    """Give the database that was live before a restore its name back."""
    parameters = backups.database_parameters(server, database, None)
    parameters |= {"action": "undo", "plan_hash": restore_id}
    deployment = TABLES if tables else RESTORE
    following.print_evidence(*following.run_to_end(profile, deployment, **parameters), json)


@group.command("drop-kept")
def drop_kept(
    server: Server,
    json: JsonFlag = False,
    profile: ProfileOption = None,
) -> None:
    """Drop the databases that restores kept for more than seven days."""
    parameters = backups.database_parameters(server, None, None) | {"action": "drop-kept"}
    following.print_evidence(*following.run_to_end(profile, RESTORE, **parameters), json)


def _chosen(
    parameters: Mapping[str, str], tables: Sequence[str] | None, masks: Sequence[str] | None
) -> tuple[str, dict[str, object]]:
    """The deployment that does what is wanted, and all it is told."""
    if not tables:
        told = [_mask(text) for text in masks or ()]
        return RESTORE, {**parameters, **({"masks": told} if told else {})}
    if masks or "target_server" in parameters or "target_database" in parameters:
        raise Refused(
            "Single tables are brought back beside the live ones of their own database.",
            hint="Leave out --mask, --to-server and --to-database, or restore the whole database.",
        )
    return TABLES, {**parameters, "tables": list(tables)}


def _mask(text: str) -> dict[str, str]:
    place, equals, expression = text.partition("=")
    table, dot, column = place.strip().rpartition(".")
    if not (equals and dot and table and column and expression.strip()):
        raise Refused(
            "A mask cannot be read.",
            hint="Write it as --mask \"customers.email='user' || id || '@example.org'\".",
        )
    return {"table": table, "column": column, "expression": expression.strip()}


def _parameters(
    server: str,
    database: str | None,
    copy: str,
    to_server: str | None,
    to_database: str | None,
    store: str | None,
) -> dict[str, str]:
    given = backups.database_parameters(server, database, store)
    given["copy"] = copy if copy == "latest" else names.check_copy_name(copy)
    if to_server is not None:
        given["target_server"] = names.check_system_name(to_server)
    if to_database is not None:
        given["target_database"] = names.check_database_name(to_database)
    return given
