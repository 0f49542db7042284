"""How a planned restore, and a done one, are shown in a terminal."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from datetime import UTC
from typing import cast

from flowforge import terminal
from flowforge.errors import Refused


def print_plan(facts: Mapping[str, object], parameters: Mapping[str, object]) -> None:
    """Print what a restore would do, and the command that does it."""
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


def _apply_command(parameters: Mapping[str, object], plan_hash: str) -> str:
    words = ["flowforge", "restore", "apply", str(parameters["server"])]
    if "database" in parameters:
        words.append(str(parameters["database"]))
    for option, name in (
        ("--copy", "copy"),
        ("--to-server", "target_server"),
        ("--to-database", "target_database"),
        ("--store", "store"),
    ):
        if name in parameters:
            words += [option, str(parameters[name])]
    for table in cast(list[str], parameters.get("tables", [])):
        words += ["--table", table]
    for mask in cast(list[dict[str, str]], parameters.get("masks", [])):
        words += ["--mask", f"{mask['table']}.{mask['column']}={mask['expression']}"]
    return shlex.join([*words, "--plan", plan_hash])


def print_tables(facts: Mapping[str, object], parameters: Mapping[str, object]) -> None:
    """Print what a restore of single tables would do, and the command that does it."""
    from flowforge.rules.table_restores import TablePlan

    plan = TablePlan.model_validate(facts.get("plan"), extra="ignore")
    terminal.print_facts(
        {
            "copy": f"{plan.copy_name} of {plan.source_database} on {plan.source_server} "
            f"({plan.copy_level.label})",
            "taken": f"{plan.snapshot_at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC, "
            f"{terminal.show_age(plan.snapshot_at)} ago",
            "tables": ", ".join(plan.tables),
            "go into": f"schema {plan.schema_name} of {plan.target.database}; "
            "no live table is touched",
            "takes disk": f"about {terminal.show_bytes(plan.needed_bytes)} while it runs",
            "plan hash": facts.get("plan_hash"),
        }
    )
    for warning in plan.warnings:
        terminal.out.print(f"warning: {terminal.show(warning)}", markup=False)
    if plan.obstacles:
        raise Refused("The restore cannot be done yet.", hint=" ".join(plan.obstacles))
    command = _apply_command({**parameters, "copy": plan.copy_name}, str(facts.get("plan_hash")))
    terminal.out.print(f"\nTo do it:\n  {command}", markup=False)


def print_done(facts: Mapping[str, object], server: str) -> None:
    """Print where everything is now, and how to go back."""
    schema = facts.get("schema_name")
    undo = ["flowforge", "restore", "undo", str(facts.get("restore_id")), "--server", server]
    undo += ["--database", str(facts.get("database")), *(["--tables"] if schema else [])]
    can_undo = facts.get("kept_as") or schema
    terminal.print_facts(
        {
            "database": facts.get("database"),
            "schema": schema,
            "the old one": facts.get("kept_as"),
            "take it back": shlex.join(undo) if can_undo else None,
        }
    )
