"""What is written down about a job while it runs, and read again after a kill."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any, Literal

from flowforge.rules.jobs.prices import Usage
from flowforge.rules.jobs.spec import JobSpec
from flowforge.rules.jobs.states import State
from flowforge.rules.values import Value

CallOutcome = Literal["reserved", "paid", "failed", "lost", "unknown"]
"""How a call to the model ended: `reserved` is under way, `failed` cost nothing, `lost` was cut
after it began, `unknown` belonged to an attempt that died."""

CallbackState = Literal["none", "wanted", "due", "told", "given_up"]
"""Whether somebody is told of its end: `wanted` while it lives, `due` when it has ended."""
Answer = Literal["asked", "granted", "denied"]


class Money(Value):
    """What a job has cost, in US dollars."""

    cost_usd: Decimal = Decimal(0)
    reserved_usd: Decimal = Decimal(0)
    """The most the calls under way may cost."""

    unknown_usd: Decimal = Decimal(0)
    """The most that was billed beyond `cost_usd` by calls whose end nobody saw. It counts as
    spent when the limit is checked."""


class JobSummary(Value):
    """A job without what was asked for and without its result: a line of a list."""

    id: str
    tenant: str
    key: str | None
    model: str
    state: State
    reason: str | None
    priority: int
    labels: dict[str, str]
    fence: int
    """How many attempts were begun or cut off. Whoever writes with an older number is refused."""

    worker: str | None
    lease_until: datetime | None
    not_before: datetime | None
    cancel_requested_at: datetime | None
    cancel_requested_by: str | None
    money: Money
    limit_usd: Decimal
    usage: Usage
    rehearsal: bool
    """Whether no model answered, so that its cost is only what it would have been."""

    turns: int
    events: int
    """Sequence number of its last event."""

    tree: str | None
    forked_from: str | None
    forked_turn: int | None
    callback: CallbackState
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    wall_seconds: float = 0.0
    """Its limit of time at work."""

    worked_seconds: float = 0.0
    """How long its attempts have worked, the living one until now; what it waited is left out."""


class Job(JobSummary):
    """All that is known of a job but its turns, events and artifacts."""

    spec: JobSpec
    result: dict[str, Any] | None


class Attempt(Value):
    """One worker's try to bring a job to its end."""

    fence: int
    worker: str
    flow_run_id: str | None
    sandbox_id: str | None
    started_at: datetime
    ended_at: datetime | None
    end_reason: str | None


class Reply(Value):
    """What the model said in one turn."""

    text: str
    """The message as JSON, verbatim: to reorder it would change the cached prefix."""

    stop_reason: str
    request_id: str | None = None
    cache_miss: str | None = None


class ToolCall(Value):
    """One tool call of a turn. Without an end it may or may not have taken effect."""

    turn: int
    position: int
    tool_use_id: str
    name: str
    input: str
    fence: int
    done: bool
    result: str | None
    """What the model was told."""

    is_error: bool
    tree: str | None
    milliseconds: int | None


class Turn(Value):
    """One turn: what was asked, what came back, and the tools it called, in their order."""

    n: int
    fence: int
    request_hash: str
    model: str
    reply: Reply | None
    """`None` while the turn is begun and not finished."""

    calls: int
    """How many times the model was called for it."""

    tools: tuple[ToolCall, ...]
    started_at: datetime
    ended_at: datetime | None


class Event(Value):
    """Something that happened in a job, for people to follow."""

    seq: int
    at: datetime
    kind: str
    data: dict[str, Any]


class Call(Value):
    """One call to the model, paid or not."""

    turn: int
    call: int
    outcome: CallOutcome
    model: str
    usage: Usage
    usd: Decimal
    reserved_usd: Decimal
    unknown_usd: Decimal
    price_from: str | None
    at: datetime


class Breaker(Value):
    """An account that is not used for now, since the provider does not accept it."""

    account: str
    reason: str
    """What the provider said."""

    opened_at: datetime
    until: datetime | None
    """When it is tried again by itself; `None`: when somebody has closed the breaker."""

    jobs: int
    """How many wait for it."""

    models: tuple[str, ...]
    """Which models those jobs ask."""


class Artifact(Value):
    """Bytes a job left behind, by name."""

    name: str
    kind: str
    sha256: str
    size_bytes: int
    created_at: datetime


class Approval(Value):
    """A command that waits, or waited, for a person."""

    turn: int
    tool_use_id: str
    command: str
    state: Answer
    asked_at: datetime
    until: datetime
    answered_by: str | None
    answered_at: datetime | None
