"""Give Claude a task in a sandbox, within a budget, and keep what came of it.

A run is one attempt. Everything it does is written in the journal before it counts, so a run that
is killed, stopped or suspended is gone on with by the next one from the last turn that was written.
"""

from __future__ import annotations

from typing import Any

from prefect import Flow, flow
from prefect.client.schemas.objects import FlowRun, State
from prefect.states import Cancelled, Completed, Failed

from flowforge.errors import Refused
from flowforge.rules.jobs import job_reports, states
from flowforge.rules.jobs.spec import JobSpec
from tasks import claude, jobs, ledger, progress


async def cancel_job(flow: Flow[..., Any], flow_run: FlowRun, state: State) -> None:
    """Cancel the job when its run is cancelled."""
    await jobs.cancel_with(flow_run)


@flow(on_cancellation=[cancel_job])
async def run_agent_job(spec: JobSpec | None = None, job: str | None = None) -> State:
    """Run an agent job, a new one or one that waits in the journal.

    Args:
        spec: What is asked for: a prompt, the files it is about, and limits.
        job: Id of a job that was submitted before, to begin it or go on with it.

    Raises:
        Refused: Neither or both were given, or something asked for is not to be had.
    """
    if (spec is None) == (job is None):
        raise Refused(
            "A run needs either a spec or the id of a job.",
            hint="Give `spec` for a new job, or `job` for one that was submitted.",
        )
    with ledger.recording("job") as record:
        if job is None:
            assert spec is not None
            job = await jobs.submit(spec)
        await jobs.ask_people(job)
        async with jobs.at_work(job) as work:
            bar = progress.JobBar()
            while await claude.next_turn(work):
                await bar.tell(work)
            outcome = await work.finish()
        if outcome.state == "waiting":
            await jobs.ask_people(job)
        result = outcome.result or {}
        evidence = job_reports.evidence(outcome.state, outcome.reason, result)
        await bar.end(evidence)
        record.ended(job_reports.operation_outcome(outcome.state), evidence, job=job, **result)
        await claude.publish(outcome)
        return _state_of(outcome.state, evidence)
    return Completed(name="Skipped", message=record.evidence)


def _state_of(state: states.State, evidence: str) -> State:
    """What the run shows: only a job that succeeded is a run that completed."""
    if state == "succeeded":
        return Completed(message=evidence)
    if state == "waiting":
        return Completed(name="Waiting", message=evidence)
    if state == "cancelled":
        return Cancelled(message=evidence)
    return Failed(name=job_reports.title(state), message=evidence)
