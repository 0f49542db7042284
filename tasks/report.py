"""Put a report where people look: an artifact of the run, with a history per subject."""

from __future__ import annotations

from prefect import get_run_logger, task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE

from flowforge.errors import Refused, Unavailable
from flowforge.rules import reports, standing, standing_reports
from tasks import ledger


@task(task_run_name="publish the report {subject}", cache_policy=NO_CACHE)
def publish(subject: str, markdown: str, description: str) -> None:
    """Show a report in the UI under a subject that stays the same from run to run."""
    create_markdown_artifact(
        markdown, key=reports.artifact_key(subject), description=description[:1000]
    )


@task(task_run_name="publish how databases are protected", cache_policy=NO_CACHE)
def publish_protection(targets: standing.Targets) -> None:
    """Show in one table what each database would lose now and how fast it is back.

    It is made of what the ledger knows; while that is away, the table of before stays.
    """
    try:
        found = ledger.read_standings(targets)
    except (Refused, Unavailable) as error:
        get_run_logger().warning("the table of protection is as it was: %s", error)
        return
    create_table_artifact(
        standing_reports.rows(found),
        key="protection",
        description=f"{standing_reports.headline(found)}.",
    )
