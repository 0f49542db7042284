"""Look at a job before anything is written: what it asks for must be to be had."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from sqlalchemy.ext.asyncio import AsyncEngine

from flowforge.engines.agent import listed_models
from flowforge.engines.agent.listed_models import NotSaid
from flowforge.errors import Refused
from flowforge.ledger.journal import prices
from flowforge.rules.jobs import models, profiles, submission
from flowforge.rules.jobs.accounts import Account
from flowforge.rules.jobs.profiles import Known
from flowforge.rules.jobs.spec import JobSpec
from flowforge.rules.jobs.submission import Problem

_ANSWER_SECONDS = 60.0


async def check(engine: AsyncEngine, spec: JobSpec, account: Account | None, known: Known) -> None:
    """Make sure that a job could go well.

    Args:
        engine: The ledger.
        spec: What is asked for.
        account: Who would pay; without it what the provider knows is not looked at.
        known: The sandbox profiles there are.

    Raises:
        Refused: It could not; the fields that are wrong are named.
    """
    problems = submission.find_problems(spec, datetime.now(UTC))
    problems += profiles.find_problems(spec.sandbox, known)
    _refuse(problems)
    await prices.price(engine, spec.model, datetime.now(UTC).date())
    if account is not None:
        await _check_model(spec, account)


async def _check_model(spec: JobSpec, account: Account) -> None:
    try:
        facts = await listed_models.facts_of(account, spec.model, seconds=_ANSWER_SECONDS)
    except NotSaid:
        return  # the provider is away or does not let us in: the job waits for that
    _refuse(models.find_problems(spec, facts))


def _refuse(problems: Sequence[Problem]) -> None:
    if problems:
        said = "; ".join(f"{problem.field}: {problem.message}" for problem in problems)
        raise Refused(f"The job cannot be as it is: {said}", hint="Correct these fields.")
