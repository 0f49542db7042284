"""`flowforge breakglass`: the same words as `python -m flowforge.breakglass`."""

from __future__ import annotations

from typing import Annotated

import typer

HELP = "List, verify and restore copies without any server."


def register(app: typer.Typer) -> None:
    """Add `breakglass` to the command."""
    told = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
    app.command("breakglass", help=HELP, context_settings=told)(breakglass)


def breakglass(
    words: Annotated[
        list[str] | None, typer.Argument(help="list, verify, restore, undo, backup")
    ] = None,
) -> object:
    """Hand everything on; the engines are imported only now."""
    from flowforge.breakglass import commands

    return commands.app(
        words or ["--help"], prog_name="flowforge breakglass", standalone_mode=False
    )
