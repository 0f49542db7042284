"""The `flowforge` command: parses, calls, prints. Nothing here decides anything.

Start-up matters (`status` should feel instant), so command modules import what is heavy inside the
function that needs it, and nothing on this path imports Prefect.
"""

from __future__ import annotations

import importlib
from typing import Annotated

import typer

from flowforge import terminal

_EXIT_CODES = (
    "Exit codes: 0 done; 1 it failed or is not well: see why, then try again; 2 `deploy --check` "
    "found a difference; 3 refused, nothing was touched; 4 damaged, a person has to look; "
    "64 typed wrongly."
)

app = typer.Typer(
    name="flowforge",
    help="Run a platform's life as flows that end in evidence.",
    epilog=_EXIT_CODES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

# Each module registers its own commands on `app`, in the order `--help` shows them.
_COMMANDS = (
    "platform",
    "status",
    "deploying",
    "systems",
    "backups",
    "protection",
    "keys",
    "restores",
    "redis",
    "approving",
    "jobs",
    "sandboxes",
    "repos",
    "breakers",
    "ledger",
    "breakglass",
)


def assemble() -> typer.Typer:
    """The command with every word it knows."""
    if not app.registered_groups:
        for name in _COMMANDS:
            importlib.import_module(f"flowforge.cli.{name}").register(app)
    return app


def main() -> None:
    """Run one command and turn what happens into its exit code."""
    terminal.run(assemble(), "flowforge")


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib import metadata

        terminal.out.print(f"flowforge {metadata.version('flowforge')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="print the version and stop", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Run a platform's life as flows that end in evidence."""


if __name__ == "__main__":
    main()
