"""What the provider says of a model, and what a job cannot ask of it."""

from __future__ import annotations

from datetime import datetime

from flowforge.rules.jobs.spec import JobSpec
from flowforge.rules.jobs.submission import Problem
from flowforge.rules.values import Value

RETIRED = "retired"


class ModelFacts(Value):
    """A model as the provider lists it."""

    most_tokens: int | None
    """The most one reply may hold, where that is known."""

    lifecycle: str | None = None
    """`active`, `deprecated` or `retired`."""

    retires_at: datetime | None = None


def find_problems(spec: JobSpec, facts: ModelFacts | None) -> list[Problem]:
    """What of a job its model cannot do.

    Args:
        spec: What is asked for.
        facts: Of its model; `None` when the provider does not know it.
    """
    if facts is None:
        message = f"The provider does not know the model {spec.model}; choose one of its list."
        return [Problem(field="model", message=message)]
    if facts.lifecycle == RETIRED:
        since = f" on {facts.retires_at:%Y-%m-%d}" if facts.retires_at else ""
        message = f"{spec.model} was retired{since}; choose a model that answers."
        return [Problem(field="model", message=message)]
    if facts.most_tokens is not None and spec.max_tokens > facts.most_tokens:
        most = facts.most_tokens
        message = f"A reply of {spec.model} holds {most:,} tokens at most; set {most:,} or less."
        return [Problem(field="max_tokens", message=message)]
    return []
