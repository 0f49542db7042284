"""How commands speak: tables and progress for people, one JSON object for programs.

Results go to standard output, everything said on the way to standard error, so
`flowforge ... --json | jq` always works.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from flowforge.errors import FlowForgeError
from flowforge.rules.names import looks_like_secret

SCHEMA = 1
EXIT_USAGE = 64
_PIPE_COLUMNS = 10_000
_PASSWORD_IN_URL = re.compile(r"(://[^/\s@]*:)[^/\s@]+@")

# In a pipe a row stays on its line, however long it is.
out = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else _PIPE_COLUMNS)
err = Console(stderr=True, highlight=False, soft_wrap=True)

JsonFlag = Annotated[bool, typer.Option("--json", help="print one JSON object instead of a table")]
ProfileOption = Annotated[
    str | None, typer.Option("--profile", help="Prefect profile that names another environment")
]


def run(app: Callable[..., object], name: str) -> NoReturn:
    """Run a command and end the process with the exit code that what happened calls for.

    Args:
        app: The command, as typer made it.
        name: What it is called in its help.
    """
    try:
        code = app(prog_name=name, standalone_mode=False)
    except FlowForgeError as error:
        print_error(error)
        sys.exit(error.exit_code)
    except typer.TyperException as error:
        print_usage_error(error)
        sys.exit(EXIT_USAGE)
    except typer.Abort:
        err.print("Stopped; nothing was done.")
        sys.exit(1)
    # What a command returns is its exit code; most return nothing.
    sys.exit(code if isinstance(code, int) else 0)


def is_interactive() -> bool:
    """Tell whether a person sits in front of it who can be asked."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def print_json(fields: Mapping[str, object]) -> None:
    """Print the one object of a command."""
    sys.stdout.write(json.dumps({"schema": SCHEMA, **fields}, default=str, indent=1) + "\n")


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print rows under their column names."""
    table = Table(box=None, pad_edge=False, header_style="bold", show_edge=False)
    shown = [[show(cell) for cell in row] for row in rows]
    for place, column in enumerate(columns):
        is_name = not any(" " in row[place] for row in shown)
        table.add_column(column, overflow="fold", no_wrap=is_name)
    for row in shown:
        table.add_row(*map(Text, row))
    out.print(table)


def print_facts(facts: Mapping[str, object]) -> None:
    """Print named facts, one a line; those that are `None` or empty are left out."""
    width = max(map(len, facts), default=0)
    for name, value in facts.items():
        if value is not None and value != "":
            out.print(f"{name:<{width}}  {show(value)}", markup=False)


def print_error(error: FlowForgeError) -> None:
    """Print what went wrong and what to do; as JSON when the command was asked for JSON."""
    # The parent class itself says only that something failed.
    kind = "failed" if type(error) is FlowForgeError else type(error).__name__.lower()
    message, hint = _hide_passwords(error.message), _hide_passwords(error.hint)
    if "--json" in sys.argv:
        print_json({"error": {"kind": kind, "message": message, "hint": hint}})
        return
    err.print(f"{kind}: {message}", style="red", markup=False)
    err.print(f"  -> {hint}", markup=False)


def print_usage_error(error: typer.TyperException) -> None:
    """Print that a command was typed wrongly, without repeating a secret that was typed."""
    message = error.format_message()
    if looks_like_secret(message):
        message = "An address with a password does not belong on a command line."
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "flowforge"
    hint = f"`{command} --help` shows how it is used."
    if "--json" in sys.argv:
        print_json({"error": {"kind": "usage", "message": message, "hint": hint}})
        return
    if message.startswith("Usage:"):  # nothing was asked for: the message is the whole help
        err.print(message, markup=False)
        return
    err.print(f"usage: {message}", style="red", markup=False)
    err.print(f"  -> {hint}", markup=False)


def _hide_passwords(text: str) -> str:
    """A message may repeat what somebody typed, and people do type passwords."""
    return _PASSWORD_IN_URL.sub(r"\1***@", text)


def show(value: object) -> str:
    """A value in one line: odd characters of a name as escapes."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(value))


def show_bytes(size: float) -> str:
    """A size in decimal units: `12.4 MB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def show_seconds(seconds: float) -> str:
    """A span of time in its two largest units: `3 h 12 min`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes, hours, days = round(seconds / 60), round(seconds / 3600), round(seconds / 86400)
    if minutes < 100:
        return f"{minutes} min"
    if hours < 100:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{days} d"


def show_age(moment: datetime | None) -> str:
    """How long ago something was, or `never`."""
    if moment is None:
        return "never"
    return show_seconds(max(0.0, (datetime.now(UTC) - moment).total_seconds()))
