"""Bring a server in line with `prefect.yaml` and the automations, and prune what left them.

The file is read strictly and completely before anything is touched; then the server's real state
is compared with it and only what differs is changed, so a second run changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from flowforge import automations, prefect_api
from flowforge.deploy import server
from flowforge.deploy.reading import Reading, read_deployments, refuse
from flowforge.errors import Unavailable
from flowforge.rules.deployment_file import without_repeats
from flowforge.rules.deployments import DeploymentChange, compare, list_foreign_schedules


@dataclass(frozen=True)
class Report:
    """What differed, and, unless it was only a check, was changed."""

    names: tuple[str, ...]
    """Every deployment of the file, as `flow/deployment`."""
    deployments: tuple[DeploymentChange, ...]
    automations: tuple[automations.Change, ...]
    notes: tuple[str, ...]
    """What a person should know although nothing was done about it."""

    @property
    def differs(self) -> bool:
        """Whether there was anything to change."""
        return bool(self.deployments or self.automations)


def deploy(home: Path, *, check: bool = False) -> Report:
    """Deploy what the `prefect.yaml` of a folder says.

    Args:
        home: The folder that holds `prefect.yaml` and `flows/`.
        check: Only compare.

    Raises:
        Refused: The file has problems, all of them named; nothing was touched.
        Unavailable: The server does not answer, or failed on the way; deploy again.
    """
    reading = read_deployments(home.resolve())
    try:
        with prefect_api.connect() as client:
            of_pools = server.check_pools(reading.wanted, server.read_pools(client))
            if problems := without_repeats([*reading.problems, *of_pools]):
                raise refuse(reading.path, problems)
            found = server.read_found(client, reading.wanted)
            changes = compare(reading.wanted, found)
            if not check:
                for change in changes:
                    server.carry_out(client, change)
            told = automations.sync_automations(client, check=check)
            notes = [
                f"{name} has a schedule without a slug ({_phrase(schedule.when)}): "
                "somebody made it by hand, it stays."
                for name, schedule in list_foreign_schedules(reading.wanted, found)
            ]
            if not automations.read_pagers(client):
                notes.append(
                    "Nobody is told of failures yet: `flowforge notify add NAME` adds a pager."
                )
    except Unavailable:
        if reading.problems:  # the file can be corrected while the server is away
            raise refuse(reading.path, reading.problems) from None
        raise
    return Report(
        names=tuple(deployment.full_name for deployment in reading.wanted),
        deployments=changes,
        automations=tuple(told),
        notes=tuple(notes),
    )


def _phrase(when: object) -> str:
    return (
        ", ".join(f"{key} {value}" for key, value in when.items()) if isinstance(when, dict) else ""
    )


__all__ = ["Reading", "Report", "deploy", "read_deployments"]
