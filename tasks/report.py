"""Put a report where people look: an artifact of the run, with a history per subject."""

from __future__ import annotations

from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from flowforge.rules import reports


@task(task_run_name="publish the report {subject}", cache_policy=NO_CACHE)
def publish(subject: str, markdown: str, description: str) -> None:
    """Show a report in the UI under a subject that stays the same from run to run."""
    create_markdown_artifact(
        markdown, key=reports.artifact_key(subject), description=description[:1000]
    )
