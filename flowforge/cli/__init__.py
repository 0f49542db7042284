"""The `flowforge` command: parses, calls, prints. Nothing here decides anything.

Start-up matters (`status` should feel instant), so command modules import what is heavy inside the
function that needs it, and nothing on this path imports Prefect.
"""

from __future__ import annotations

import importlib
import sys

import typer

from flowforge.cli import output
from flowforge.errors import FlowForgeError

app = typer.Typer(
    name="flowforge",
    help="Run a platform's life as flows that end in evidence.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

# Each module registers its own commands on `app`, in the order `--help` shows them.
_COMMANDS = ("platform", "deploying", "systems", "backups", "restores", "ledger")


def main() -> None:
    """Run one command and turn the three error kinds into their exit codes."""
    for name in _COMMANDS:
        importlib.import_module(f"flowforge.cli.{name}").register(app)
    try:
        app()
    except FlowForgeError as error:
        output.print_error(error)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
