"""`flowforge deploy`: bring the server in line with prefect.yaml."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from flowforge import terminal


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("deploy")(deploy)


def deploy(
    check: Annotated[
        bool, typer.Option("--check", help="only print the difference; exit 2 if there is one")
    ] = False,
    json: terminal.JsonFlag = False,
    profile: terminal.ProfileOption = None,
) -> None:
    """Make the server equal to prefect.yaml and to the automations."""
    from flowforge.client.address import find_environment

    # Prefect reads its server's address when it is imported, so it is settled before.
    environment = find_environment(profile=profile)
    os.environ["PREFECT_API_URL"] = environment.api_url
    os.environ.pop("FLOWFORGE_API_URL", None)
    if environment.credentials is not None:
        os.environ["PREFECT_API_AUTH_STRING"] = ":".join(environment.credentials)
    from flowforge.deploy.__main__ import run

    raise typer.Exit(run(check=check, as_json=json))
