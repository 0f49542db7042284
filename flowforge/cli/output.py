"""How commands speak: tables and progress for people, one JSON object for programs.

Results go to standard output, everything said on the way to standard error, so
`flowforge ... --json | jq` always works.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Annotated

import typer
from pydantic import JsonValue
from rich.console import Console
from rich.table import Table

from flowforge.errors import FlowForgeError

SCHEMA = 1

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)

JsonFlag = Annotated[bool, typer.Option("--json", help="print one JSON object instead of a table")]
ProfileOption = Annotated[
    str | None, typer.Option("--profile", help="Prefect profile that names another environment")
]


def print_json(fields: Mapping[str, JsonValue]) -> None:
    """Print the one object of a command."""
    sys.stdout.write(json.dumps({"schema": SCHEMA, **fields}, default=str, indent=1) + "\n")


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print rows under their column names."""
    table = Table(box=None, pad_edge=False, header_style="bold", show_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    out.print(table)


def print_error(error: FlowForgeError) -> None:
    """Print what went wrong and what to do; as JSON when the command was asked for JSON."""
    kind = type(error).__name__.lower()
    if "--json" in sys.argv:
        print_json({"error": {"kind": kind, "message": error.message, "hint": error.hint}})
        return
    err.print(f"{kind}: {error.message}", style="red", markup=False)
    err.print(f"  -> {error.hint}", markup=False)
