"""Agent jobs as the client tells of them. How a job ended is a value, not an error."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from pydantic import BaseModel, ConfigDict, JsonValue

from flowforge.errors import FlowForgeError
from flowforge.rules.jobs.prices import Usage
from flowforge.rules.jobs.records import Approval, Artifact, Attempt, JobSummary, ToolCall
from flowforge.rules.jobs.spec import JobSpec
from flowforge.rules.jobs.states import State, is_end

Wish = JobSpec | Mapping[str, Any] | str
"""What a job shall do: a whole spec, its fields, or only the prompt."""


class JobDetails(JobSummary):
    """All that is known of a job but its turns and events."""

    spec: dict[str, JsonValue]
    """What was asked for; of files that came with it only the paths."""

    result: dict[str, JsonValue] | None
    attempts: list[Attempt]
    approvals: list[Approval]
    artifacts: list[Artifact]


class PatchFacts(BaseModel):
    """What a job changed."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    proven: bool = False
    """Whether it was applied to the files the job began with and gave what the job left."""

    why_not: str | None = None
    base: str | None = None
    tree: str | None = None
    files: tuple[str, ...] = ()
    insertions: int = 0
    deletions: int = 0


class Outcome(BaseModel):
    """How a job ended."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    job: str
    state: State
    reason: str | None = None
    text: str = ""
    """The last the model said."""

    output: Any = None
    """What it answered in the form of the spec's `output_schema`."""

    turns: int = 0
    usd: Decimal = Decimal(0)
    usage: Usage = Usage()
    rehearsal: bool = False
    """Whether a rehearsal model answered, and no money was spent."""

    patch: PatchFacts | None = None
    """What it changed, if anything."""

    seconds: float | None = None
    """From the first attempt's start to the end; `None` when it never began."""

    @property
    def succeeded(self) -> bool:
        """Whether it did what it was asked, as far as the platform can tell."""
        return self.state == "succeeded"

    def __bool__(self) -> bool:
        return self.succeeded


class NotSucceeded(FlowForgeError):
    """A job ended without success, and the caller wanted that to be an error."""

    def __init__(self, outcome: Outcome) -> None:
        why = f": {outcome.reason}" if outcome.reason else "."
        super().__init__(
            f"{outcome.job} ended {outcome.state}{why}",
            hint=f"Read what it did with `flowforge job replay {outcome.job}`.",
        )
        self.outcome = outcome

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.outcome,)


class SpokenTurn(BaseModel):
    """One turn of a job: what the model said, and what its tools answered."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    n: int
    model: str
    stop_reason: str | None
    """`None` while no whole reply is there."""

    content: list[dict[str, Any]]
    """The blocks of the reply, as the Messages API has them."""

    tools: list[ToolCall]
    started_at: datetime
    ended_at: datetime | None

    @property
    def text(self) -> str:
        """What it said, without tools and thinking."""
        said = [block.get("text", "") for block in self.content if block.get("type") == "text"]
        return "\n".join(said)


def outcome_of(job: JobDetails) -> Outcome:
    """How a job that has ended, ended. One that never began has no result of its own."""
    assert is_end(job.state)
    known = {"turns": job.turns, "usd": job.money.cost_usd, "usage": job.usage.model_dump()}
    if job.started_at and job.ended_at:
        known["seconds"] = (job.ended_at - job.started_at).total_seconds()
    told = {name: value for name, value in (job.result or {}).items() if value is not None}
    fields = {**known, **told, "job": job.id, "state": job.state, "reason": job.reason}
    return Outcome.model_validate(fields, extra="ignore")
