"""A deploy as people and programs read it: one row or one object for each thing that differed."""

from __future__ import annotations

import json
from collections.abc import Iterator

from pydantic import JsonValue
from rich.console import Console
from rich.table import Table

from flowforge.deploy import Report
from flowforge.errors import FlowForgeError
from flowforge.rules.deployments import Deployment, DeploymentChange, ScheduleChange

SCHEMA = 1
_SHOWN_CHARACTERS = 60
_LONG_FIELDS = {"parameter_openapi_schema": "the flow's form", "description": "the description"}


def to_json(report: Report, *, check: bool) -> str:
    """The one object of the command."""
    difference: list[JsonValue] = []
    for change in report.deployments:
        difference += _list_json(change)
    for automation in report.automations:
        difference.append(
            {
                "kind": "automation",
                "name": automation.name,
                "action": automation.action,
                "why": automation.why,
            }
        )
    return json.dumps(
        {
            "schema": SCHEMA,
            "check": check,
            "differs": report.differs,
            "deployments": list(report.names),
            "difference": difference,
            "notes": list(report.notes),
        },
        indent=1,
    )


def error_to_json(error: FlowForgeError) -> str:
    """An error as the one object of the command."""
    fields: dict[str, JsonValue] = {
        "kind": type(error).__name__.lower(),
        "message": error.message,
        "hint": error.hint,
    }
    problems = error.facts.get("problems")
    if isinstance(problems, list):
        fields["problems"] = problems
    return json.dumps({"schema": SCHEMA, "error": fields}, indent=1)


def print_report(report: Report, *, check: bool, out: Console, err: Console) -> None:
    """Print what differed as a table, and what to do about it."""
    if report.differs:
        table = Table(box=None, pad_edge=False, header_style="bold", show_edge=False)
        for column in ("what", "name", "would" if check else "did", "detail"):
            table.add_column(column, overflow="fold")
        for row in _list_rows(report):
            table.add_row(*row)
        out.print(table, markup=False)
        if check:
            out.print("The server differs from prefect.yaml; `flowforge deploy` changes it.")
    else:
        count = len(report.names)
        out.print(f"{count} deployment{'s' if count != 1 else ''}: nothing differs.")
    for note in report.notes:
        err.print(f"note: {note}", markup=False)


def _list_rows(report: Report) -> Iterator[tuple[str, str, str, str]]:
    for change in report.deployments:
        name = change.full_name
        if change.action == "create":
            assert change.wanted is not None
            slugs = ", ".join(str(one.slug) for one in change.wanted.schedules)
            yield "deployment", name, "create", f"schedules {slugs}" if slugs else "no schedule"
        elif change.action == "delete":
            yield "deployment", name, "delete", "left prefect.yaml"
        elif change.fields:
            yield "deployment", name, "update", _list_fields(change)
        for schedule in change.schedules:
            yield "schedule", f"{name} {schedule.slug}", schedule.action, _detail(schedule)
    for automation in report.automations:
        yield "automation", automation.name, automation.action, automation.why


def _list_fields(change: DeploymentChange) -> str:
    parts = []
    for field in change.fields:
        if field in _LONG_FIELDS:
            parts.append(_LONG_FIELDS[field])
        else:
            before, after = _value(change.found, field), _value(change.wanted, field)
            parts.append(f"{field}: {_short(before)} -> {_short(after)}")
    return "; ".join(parts)


def _detail(change: ScheduleChange) -> str:
    sides = []
    for schedule in (change.found, change.wanted):
        if schedule is not None:
            shown = schedule.when | (
                {"parameters": schedule.parameters} if schedule.parameters else {}
            )
            sides.append(", ".join(f"{key} {_short(value)}" for key, value in shown.items()))
    return "left prefect.yaml" if change.action == "delete" else " -> ".join(sides)


def _list_json(change: DeploymentChange) -> list[JsonValue]:
    rows: list[JsonValue] = []
    if change.action != "update" or change.fields:
        rows.append(
            {
                "kind": "deployment",
                "name": change.full_name,
                "action": change.action,
                "fields": {
                    field: {
                        "before": _value(change.found, field),
                        "after": _value(change.wanted, field),
                    }
                    for field in change.fields
                },
            }
        )
    for one in change.schedules:
        sides = {"before": one.found, "after": one.wanted}
        rows.append(
            {
                "kind": "schedule",
                "name": f"{change.full_name} {one.slug}",
                "action": one.action,
                **{
                    side: schedule.model_dump(mode="json", include={"when", "parameters"})
                    for side, schedule in sides.items()
                    if schedule is not None
                },
            }
        )
    return rows


def _value(deployment: Deployment | None, field: str) -> JsonValue:
    return deployment.fields.get(field) if deployment is not None else None


def _short(value: JsonValue) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "…"
