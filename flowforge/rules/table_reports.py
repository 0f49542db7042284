"""What a restore of single tables says, as markdown for Prefect's UI."""

from __future__ import annotations

from collections.abc import Sequence

from flowforge.rules import reports
from flowforge.rules.table_restores import RestoredTable, TablePlan


def plan_report(plan: TablePlan) -> str:
    """A plan as somebody agrees to it."""
    target = plan.target
    lines = [
        f"# Plan `{plan.digest}`: {len(plan.tables)} tables of `{plan.copy_name}` beside the live "
        f"ones in `{reports.name(target.database)}`",
        "",
        "Nothing has been touched. No live table will be.",
        "",
        "| | |",
        "|---|---|",
        f"| tables | {', '.join(f'`{reports.name(table)}`' for table in plan.tables)} |",
        f"| as they were | {plan.snapshot_at:%Y-%m-%d %H:%M:%S} UTC |",
        f"| proven to | {plan.copy_level.label} |",
        f"| go into the schema | `{plan.schema_name}` |",
        f"| room needed while it runs | {reports.size(plan.needed_bytes)} |",
    ]
    lines += reports.section("In the way, to be changed first", plan.obstacles)
    lines += reports.section("Mind", plan.warnings)
    if not plan.obstacles:
        lines += ["", "## To do it", "", *reports.code(command(plan, "apply"))]
    return "\n".join(lines)


def restored_report(plan: TablePlan, restored: Sequence[RestoredTable], *, seconds: float) -> str:
    """The report of a restore that was done; no table means an earlier run had done it."""
    lines = [
        f"# Tables of `{plan.copy_name}` are in the schema `{plan.schema_name}`",
        "",
        f"Every row was compared with the copy before it was seen; {reports.duration(seconds)} "
        "(measured)."
        if restored
        else "An earlier run had already done it; nothing was done twice.",
        "",
        "| table | restored as | rows |",
        "|---|---|---|",
    ]
    lines += [
        f"| `{reports.name(one.name)}` | `{reports.name(one.restored_as)}` | {one.rows:,} |"
        for one in restored
    ]
    undo = f"flowforge restore undo {plan.restore_id} --tables --server {plan.target.server}"
    lines += ["", "When you have taken what you need:", ""]
    lines += reports.code(f"{undo} --database {reports.shell(plan.target.database)}")
    return "\n".join(lines)


def command(plan: TablePlan, verb: str) -> str:
    """The command that does what was planned."""
    tables = " ".join(f"--table {reports.shell(table)}" for table in plan.tables)
    store = "" if plan.store == reports.DEFAULT_STORE else f" --store {plan.store}"
    return (
        f"flowforge restore {verb} {plan.source_server} {reports.shell(plan.source_database)} "
        f"--copy {plan.copy_name} {tables}{store} --plan {plan.digest}"
    )
