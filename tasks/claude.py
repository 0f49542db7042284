"""One turn of an agent job, as a step of its own in the UI, and what is shown of the whole."""

from __future__ import annotations

from prefect import get_run_logger, task
from prefect.artifacts import (
    acreate_link_artifact,
    acreate_markdown_artifact,
    acreate_table_artifact,
)
from prefect.cache_policies import NO_CACHE
from prefect.context import TaskRunContext
from prefect.utilities.annotations import quote

from flowforge.engines.agent.attempt import Attempt, Turned
from flowforge.engines.agent.finishing import Outcome
from flowforge.ledger.journal import money
from flowforge.rules.jobs import costs, job_reports
from flowforge.settings import read_settings
from tasks import jobs

_MOST_TITLE = 120


async def next_turn(work: Attempt) -> Turned | None:
    """Have a job take its next turn; nothing when it is over or has to wait."""
    turned: Turned | None = await _take_turn(work.next_turn, quote(work))  # type: ignore[call-overload]
    return turned


@task(task_run_name="turn {n}", cache_policy=NO_CACHE)
async def _take_turn(n: int, work: Attempt) -> Turned | None:
    turned = await work.step()
    title = turned.title if turned else f"turn {n}: {work.ending.state if work.ending else 'waits'}"
    get_run_logger().info("%s", title)
    if context := TaskRunContext.get():
        # What it did is known only now; the event of its end carries the name to the server.
        context.task_run.name = title[:_MOST_TITLE]
    return turned


@task(task_run_name="publish what came of it", cache_policy=NO_CACHE)
async def publish(outcome: Outcome) -> None:
    """Show a job's summary, costs and patch as artifacts of the run."""
    async with jobs.opened() as engine:
        calls = await money.list_calls(engine, outcome.job)
    cost = costs.add_up(calls)
    key = f"job-{outcome.job.removeprefix('job_')[:20]}"
    await acreate_markdown_artifact(
        job_reports.summary(outcome.job, outcome.state, outcome.reason, outcome.result or {}, cost),
        key=key,
        description=job_reports.evidence(outcome.state, outcome.reason, outcome.result or {}),
    )
    await acreate_table_artifact(job_reports.cost_rows(cost), key=f"{key}-cost")
    url = read_settings().api_url
    if url and (outcome.result or {}).get("patch"):
        link = f"{url.removesuffix('/api')}/ff/v1/jobs/{outcome.job}/patch"
        await acreate_link_artifact(link, link_text="the patch", key=f"{key}-patch")
