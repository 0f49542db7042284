"""What `prefect.yaml` may say, and what differs between it and a server.

Prefect reads the file leniently: a mistyped key is ignored, an unset variable becomes an empty
text, a schedule without a slug is made anew on every deploy. Here each of these is a problem that
names its entry and field, and all problems are found in one reading.

`compare` is the whole of deploying that decides anything. What an operator switches by hand is not
compared, so it is never switched back: the pause of a deployment or of a schedule.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Literal

from pydantic import Field, JsonValue, field_validator, model_validator

from flowforge.rules.values import Value

TAG = "flowforge"
"""Marks the deployments that are ours to update and to remove."""

Fields = dict[str, JsonValue]
_Slug = Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=100)]
_Name = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^/%&<>]+$")]


class ScheduleEntry(Value):
    """One schedule of the file: exactly one of cron, interval and rrule."""

    slug: _Slug
    timezone: str
    cron: str | None = None
    day_or: bool = True
    interval: float | None = Field(default=None, gt=0, description="seconds")
    anchor_date: str | None = None
    rrule: str | None = None
    parameters: Fields = Field(default_factory=dict)

    @model_validator(mode="after")
    def check_one_kind(self) -> ScheduleEntry:
        """Refuse none or several kinds, and an interval that would start anew on each deploy."""
        if sum(kind is not None for kind in (self.cron, self.interval, self.rrule)) != 1:
            raise ValueError("needs exactly one of cron, interval and rrule")
        if self.interval is not None and self.anchor_date is None:
            raise ValueError("an interval also needs anchor_date")
        return self


class PoolEntry(Value):
    """Where the runs of a deployment start."""

    name: str
    work_queue_name: str | None = None
    job_variables: Fields = Field(default_factory=dict)


class ConcurrencyEntry(Value):
    """How many runs of a deployment may execute at a time, and what the next one does."""

    limit: int = Field(ge=1)
    collision_strategy: Literal["ENQUEUE", "CANCEL_NEW"] = "ENQUEUE"
    grace_period_seconds: int | None = Field(default=None, ge=60, le=86400)


class DeploymentEntry(Value):
    """One deployment of the file."""

    name: _Name
    entrypoint: str = Field(pattern=r"^[^:]+\.py:[A-Za-z_][A-Za-z0-9_]*$")
    work_pool: PoolEntry
    description: str | None = None
    tags: list[str] = Field(default_factory=list)
    version: str | None = None
    parameters: Fields = Field(default_factory=dict)
    enforce_parameter_schema: bool = True
    paused: bool = Field(default=False, description="whether it is paused when first deployed")
    concurrency_limit: ConcurrencyEntry | None = None
    schedules: list[ScheduleEntry] = Field(default_factory=list)
    pull: list[Fields] | None = None

    @field_validator("concurrency_limit", mode="before")
    @classmethod
    def lengthen(cls, value: object) -> object:
        """A bare number is the limit."""
        return {"limit": value} if isinstance(value, int | str) else value


class PrefectFile(Value):
    """The whole file."""

    prefect_version: str | None = Field(default=None, alias="prefect-version")
    name: str | None = None
    definitions: JsonValue = None
    pull: list[Fields] | None = None
    deployments: list[DeploymentEntry] = Field(min_length=1)


class Schedule(Value):
    """A schedule as the server keeps it."""

    slug: str | None
    when: Fields
    """Prefect's own form, for example `{"cron": ..., "timezone": ..., "day_or": true}`."""
    parameters: Fields = Field(default_factory=dict)
    id: str | None = None
    """Its id on the server; `None` for a wanted one."""


class Deployment(Value):
    """A deployment as the server keeps it, wanted or found."""

    flow_name: str
    name: str
    fields: Fields
    """What is compared, by Prefect's names."""
    schedules: tuple[Schedule, ...] = ()
    paused: bool = False
    id: str | None = None
    """Its id on the server; `None` for a wanted one."""

    @property
    def full_name(self) -> str:
        """`flow/deployment`, as people type it."""
        return f"{self.flow_name}/{self.name}"


class ScheduleChange(Value):
    """What to do with one schedule."""

    action: Literal["create", "update", "delete"]
    slug: str
    wanted: Schedule | None = None
    found: Schedule | None = None


class DeploymentChange(Value):
    """What to do with one deployment. An update may concern its schedules alone."""

    action: Literal["create", "update", "delete"]
    wanted: Deployment | None = None
    found: Deployment | None = None
    fields: tuple[str, ...] = ()
    """Which fields differ."""
    schedules: tuple[ScheduleChange, ...] = ()

    @property
    def full_name(self) -> str:
        """`flow/deployment`."""
        deployment = self.wanted or self.found
        assert deployment is not None
        return deployment.full_name


def compare(
    wanted: Sequence[Deployment], found: Iterable[Deployment]
) -> tuple[DeploymentChange, ...]:
    """Say what to create, update and delete so that the server matches the file.

    Laws: equal sides give nothing; a pause never shows; only deployments that carry our tag, and of
    them only schedules with a slug, are ever deleted.

    Args:
        wanted: Every deployment of the file.
        found: Deployments of the server: ours, and any that has the name of a wanted one.
    """
    present = {deployment.full_name: deployment for deployment in found}
    changes: list[DeploymentChange] = []
    for deployment in wanted:
        existing = present.pop(deployment.full_name, None)
        if existing is None:
            changes.append(DeploymentChange(action="create", wanted=deployment))
            continue
        fields = _differing(deployment.fields, existing.fields)
        schedules = _compare_schedules(deployment.schedules, existing.schedules)
        if fields or schedules:
            changes.append(
                DeploymentChange(
                    action="update",
                    wanted=deployment,
                    found=existing,
                    fields=fields,
                    schedules=schedules,
                )
            )
    for leftover in present.values():
        tags = leftover.fields.get("tags")
        if isinstance(tags, list) and TAG in tags:
            changes.append(DeploymentChange(action="delete", found=leftover))
    return tuple(changes)


def list_foreign_schedules(
    wanted: Sequence[Deployment], found: Iterable[Deployment]
) -> list[tuple[str, Schedule]]:
    """The schedules without a slug on our deployments: somebody made them by hand, they stay."""
    names = {deployment.full_name for deployment in wanted}
    return [
        (deployment.full_name, schedule)
        for deployment in found
        if deployment.full_name in names
        for schedule in deployment.schedules
        if schedule.slug is None
    ]


def _differing(wanted: Mapping[str, JsonValue], found: Mapping[str, JsonValue]) -> tuple[str, ...]:
    return tuple(
        name
        for name, value in wanted.items()
        if _normal(name, value) != _normal(name, found.get(name))
    )


def _normal(name: str, value: JsonValue) -> JsonValue:
    if name == "tags" and isinstance(value, list):
        return [*sorted(str(tag) for tag in value)]
    return value


def _compare_schedules(
    wanted: Sequence[Schedule], found: Sequence[Schedule]
) -> tuple[ScheduleChange, ...]:
    present = {schedule.slug: schedule for schedule in found if schedule.slug is not None}
    changes: list[ScheduleChange] = []
    for schedule in wanted:
        assert schedule.slug is not None
        existing = present.pop(schedule.slug, None)
        if existing is None:
            changes.append(ScheduleChange(action="create", slug=schedule.slug, wanted=schedule))
        elif (schedule.when, schedule.parameters) != (existing.when, existing.parameters):
            changes.append(
                ScheduleChange(action="update", slug=schedule.slug, wanted=schedule, found=existing)
            )
    changes += [
        ScheduleChange(action="delete", slug=slug, found=schedule)
        for slug, schedule in present.items()
    ]
    return tuple(changes)
