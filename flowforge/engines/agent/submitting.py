"""Look at a job before anything is written: what it asks for must be to be had."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy.ext.asyncio import AsyncEngine

from flowforge.engines.agent.transport import CallFailed, Model
from flowforge.errors import Refused
from flowforge.ledger.journal import prices
from flowforge.rules.jobs import profiles, submission
from flowforge.rules.jobs.profiles import Known
from flowforge.rules.jobs.spec import JobSpec


async def check(engine: AsyncEngine, spec: JobSpec, model: Model | None, known: Known) -> None:
    """Make sure that a job could go well.

    Args:
        engine: The ledger.
        spec: What is asked for.
        model: Who would be asked; without it what the provider knows is not looked at.
        known: The sandbox profiles there are.

    Raises:
        Refused: It could not; the fields that are wrong are named.
    """
    problems = submission.find_problems(spec, datetime.now(UTC))
    problems += profiles.find_problems(spec.sandbox, known)
    if problems:
        said = "; ".join(f"{problem.field}: {problem.message}" for problem in problems)
        raise Refused(f"The job cannot be as it is: {said}", hint="Correct these fields.")
    await prices.price(engine, spec.model, datetime.now(UTC).date())
    if model is not None:
        await _check_model(spec, model)


async def _check_model(spec: JobSpec, model: Model) -> None:
    try:
        most, _ = await model.limits_of(spec.model)
    except CallFailed as failed:
        if failed.failure.kind != "request":
            return  # the provider is away or does not let us in: the job waits for that
        raise Refused(
            f"The provider does not know the model {spec.model}.",
            hint="Choose another model; its own list is in the provider's documentation.",
        ) from failed
    if most is not None and spec.max_tokens > most:
        raise Refused(
            f"max_tokens is {spec.max_tokens:,}; a reply of {spec.model} holds {most:,} at most.",
            hint=f"Set max_tokens to {most} or less.",
        )
