"""`flowforge restore`: see what a restore would do, agree to it by its hash, take it back."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from datetime import UTC
from typing import Annotated

import typer

from flowforge import terminal
from flowforge.cli import backups, following
from flowforge.cli.backups import Database, DatabaseOption, Server, StoreOption
from flowforge.errors import Refused
from flowforge.rules import names
from flowforge.terminal import JsonFlag, ProfileOption

RESTORE = "restore-postgres/on-demand"

CopyOption = Annotated[str, typer.Option("--copy", help="name of the copy, or `latest`")]
ToServer = Annotated[
    str | None, typer.Option("--to-server", help="server to restore to; by default the copy's own")
]
ToDatabase = Annotated[
    str | None, typer.Option("--to-database", help="database to restore as; by default the same")
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
    json: JsonFlag = False,
    profile: ProfileOption = None,
) -> None:
    """Say what a restore would do and lose; print the hash to apply."""
    parameters = _parameters(server, database, copy, to_server, to_database, store)
    run, operation = following.run_to_end(profile, RESTORE, action="plan", **parameters)
    if json:
        terminal.print_json({"run": following.run_json(run), **operation.facts})
        return
    _print_plan(operation.facts, parameters)


@group.command("apply")
def apply_restore(
    server: Server,
    plan: Annotated[str, typer.Option("--plan", help="hash that `restore plan` printed")],
    database: Database = None,
    copy: CopyOption = "latest",
    to_server: ToServer = None,
    to_database: ToDatabase = None,
    store: StoreOption = None,
    json: JsonFlag = False,
    profile: ProfileOption = None,
) -> None:
    """Restore as planned: load beside the live one, compare, swap."""
    parameters = _parameters(server, database, copy, to_server, to_database, store)
    parameters |= {"action": "apply", "plan_hash": plan}
    run, operation = following.run_to_end(profile, RESTORE, **parameters)
    following.print_evidence(run, operation, json)
    if json:
        return
    undo = ["flowforge", "restore", "undo", str(operation.facts.get("restore_id"))]
    undo += ["--server", to_server or server]
    undo += ["--database", str(operation.facts.get("database"))]
    terminal.print_facts(
        {
            "database": operation.facts.get("database"),
            "the old one": operation.facts.get("kept_as"),
            "take it back": shlex.join(undo) if operation.facts.get("kept_as") else None,
        }
    )


@group.command("undo")
def undo_restore(
    restore_id: Annotated[str, typer.Argument(help="what `restore apply` printed")],
    server: Annotated[str, typer.Option("--server", help="server that was restored to")],
    database: DatabaseOption = None,
    json: JsonFlag = False,
    profile: ProfileOption = None,
) -> None:
    """Give the database that was live before a restore its name back."""
    parameters = backups.database_parameters(server, database, None)
    parameters |= {"action": "undo", "plan_hash": restore_id}
    following.print_evidence(*following.run_to_end(profile, RESTORE, **parameters), json)


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


def _print_plan(facts: Mapping[str, object], parameters: Mapping[str, str]) -> None:
    from flowforge.rules.restores import RestorePlan

    plan = RestorePlan.model_validate(facts.get("plan"), extra="ignore")
    target = plan.target
    replaces = target.database_oid is not None
    terminal.print_facts(
        {
            "copy": f"{plan.copy_name} of {plan.source_database} on {plan.source_server} "
            f"({plan.copy_level.label})",
            "taken": f"{plan.snapshot_at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC, "
            f"{terminal.show_age(plan.snapshot_at)} ago",
            "goes to": f"{target.database} on {target.server} (PostgreSQL {target.major})",
            "loaded as": plan.side_database,
            "old one kept as": plan.kept_as,
            "loses": f"the writes of the last {terminal.show_seconds(plan.loses_seconds)}"
            if replaces
            else "nothing: there is no such database yet",
            "sessions ended": target.sessions if replaces else None,
            "takes disk": f"about {terminal.show_bytes(plan.database_bytes)} more",
            "takes time": "unknown"
            if plan.estimated_seconds is None
            else f"about {terminal.show_seconds(plan.estimated_seconds)}",
            "plan hash": facts.get("plan_hash"),
        }
    )
    for warning in plan.warnings:
        terminal.out.print(f"warning: {terminal.show(warning)}", markup=False)
    if plan.obstacles:
        raise Refused("The restore cannot be done yet.", hint=" ".join(plan.obstacles))
    # `latest` may be another copy by then, so the command names the one that was planned.
    command = _apply_command({**parameters, "copy": plan.copy_name}, str(facts.get("plan_hash")))
    terminal.out.print(f"\nTo do it:\n  {command}", markup=False)


def _apply_command(parameters: Mapping[str, str], plan_hash: str) -> str:
    words = ["flowforge", "restore", "apply", parameters["server"]]
    if "database" in parameters:
        words.append(parameters["database"])
    for option, name in (
        ("--copy", "copy"),
        ("--to-server", "target_server"),
        ("--to-database", "target_database"),
        ("--store", "store"),
    ):
        if name in parameters:
            words += [option, parameters[name]]
    return shlex.join([*words, "--plan", plan_hash])
