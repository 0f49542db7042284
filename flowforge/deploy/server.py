"""The deployments of a server: read as values, changed one by one.

Every update of a deployment deletes its future scheduled runs (the scheduler makes them again
within seconds), so only what differs is sent, and a schedule is changed on its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, cast
from uuid import UUID

from jsonschema import ValidationError as VariablesError  # type: ignore[import-untyped]
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import DeploymentScheduleCreate, DeploymentUpdate
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    DeploymentFilterTags,
    FlowFilter,
    FlowFilterId,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType, WorkPool
from prefect.client.schemas.responses import DeploymentResponse
from prefect.exceptions import ObjectNotFound
from prefect.states import Cancelled
from pydantic import TypeAdapter

from flowforge.rules.deployment_file import Problem
from flowforge.rules.deployments import (
    TAG,
    Deployment,
    DeploymentChange,
    Fields,
    Schedule,
    ScheduleChange,
)

_PAGE = 200
_READ_AS_THEY_ARE = {
    "entrypoint",
    "version",
    "description",
    "tags",
    "work_pool_name",
    "work_queue_name",
    "job_variables",
    "parameters",
    "parameter_openapi_schema",
    "enforce_parameter_schema",
    "pull_steps",
    "path",
}
_LEFT_BY_PREFECT = "AwaitingConcurrencySlot"
"""Scheduled runs in this state survive when Prefect deletes their schedule or deployment."""


def read_pools(client: SyncPrefectClient) -> dict[str, WorkPool]:
    """The server's work pools by name."""
    return {pool.name: pool for pool in client.read_work_pools(limit=_PAGE)}


def check_pools(wanted: Iterable[Deployment], pools: Mapping[str, WorkPool]) -> list[Problem]:
    """Find deployments whose pool is not there or would refuse their job variables."""
    problems = []
    for deployment in wanted:
        name = str(deployment.fields["work_pool_name"])
        if name not in pools:
            problems.append(
                Problem(
                    entry=deployment.name,
                    field="work_pool.name",
                    message=f"the server has no work pool {name!r}.",
                    hint=f"It has {', '.join(sorted(pools)) or 'none'}; "
                    "`python -m work_pools` makes FlowForge's.",
                )
            )
            continue
        asked = DeploymentUpdate.model_validate(
            {"job_variables": deployment.fields["job_variables"]}
        )
        try:
            asked.check_valid_configuration(pools[name].base_job_template)
        except VariablesError as error:
            problems.append(
                Problem(
                    entry=deployment.name,
                    field="work_pool.job_variables",
                    message=f"the pool {name} would refuse them: {error.message}.",
                    hint="Correct it; the pool's template in work_pools/ says what it takes.",
                )
            )
    return problems


def read_found(client: SyncPrefectClient, wanted: Iterable[Deployment]) -> list[Deployment]:
    """Read the server's deployments that carry our tag, and those named like a wanted one."""
    answers = _read_tagged(client)
    flows = _read_flow_names(client, answers)
    found = {one.full_name: one for one in (_to_value(answer, flows) for answer in answers)}
    for deployment in wanted:
        if deployment.full_name not in found:
            try:
                answer = client.read_deployment_by_name(deployment.full_name)
            except ObjectNotFound:
                continue
            found[deployment.full_name] = _to_value(answer, {answer.flow_id: deployment.flow_name})
    return list(found.values())


def _read_tagged(client: SyncPrefectClient) -> list[DeploymentResponse]:
    answers: list[DeploymentResponse] = []
    more = True
    while more:
        page = client.read_deployments(
            deployment_filter=DeploymentFilter(tags=DeploymentFilterTags(all_=[TAG])),
            limit=_PAGE,
            offset=len(answers),
        )
        answers += page
        more = len(page) == _PAGE
    return answers


def _read_flow_names(
    client: SyncPrefectClient, answers: Iterable[DeploymentResponse]
) -> dict[UUID, str]:
    ids = sorted({answer.flow_id for answer in answers})
    names: dict[UUID, str] = {}
    for start in range(0, len(ids), _PAGE):
        some = FlowFilter(id=FlowFilterId(any_=ids[start : start + _PAGE]))
        names |= {flow.id: flow.name for flow in client.read_flows(flow_filter=some, limit=_PAGE)}
    return names


def _to_value(answer: DeploymentResponse, flows: Mapping[UUID, str]) -> Deployment:
    limit = answer.global_concurrency_limit
    options = answer.concurrency_options
    fields: Fields = answer.model_dump(mode="json", include=_READ_AS_THEY_ARE)
    fields["concurrency_limit"] = limit.limit if limit else None
    fields["concurrency_options"] = (
        options.model_dump(mode="json", exclude_none=True) if options else None
    )
    return Deployment(
        id=str(answer.id),
        flow_name=flows[answer.flow_id],
        name=answer.name,
        fields=fields,
        paused=answer.paused,
        schedules=tuple(
            Schedule(
                id=str(schedule.id),
                slug=schedule.slug,
                when=schedule.schedule.model_dump(mode="json"),
                parameters=TypeAdapter(dict[str, Any]).dump_python(
                    schedule.parameters, mode="json"
                ),
            )
            for schedule in answer.schedules
        ),
    )


def carry_out(client: SyncPrefectClient, change: DeploymentChange) -> None:
    """Make one deployment match."""
    if change.action == "create":
        assert change.wanted is not None
        _create(client, change.wanted)
        return
    assert change.found is not None and change.found.id is not None
    deployment_id = UUID(change.found.id)
    if change.action == "delete":
        _cancel_scheduled_runs(client, deployment_id)
        client.delete_deployment(deployment_id)
        return
    for schedule in change.schedules:
        _carry_out_schedule(client, deployment_id, schedule)
    if change.fields:
        assert change.wanted is not None
        _update(client, deployment_id, change.wanted.fields, change.fields)


def _create(client: SyncPrefectClient, wanted: Deployment) -> None:
    client.create_deployment(
        flow_id=client.create_flow_from_name(wanted.flow_name),
        name=wanted.name,
        paused=wanted.paused,
        schedules=[_new_schedule(schedule) for schedule in wanted.schedules],
        **cast(dict[str, Any], wanted.fields),
    )


def _update(
    client: SyncPrefectClient, deployment_id: UUID, wanted: Fields, differing: Iterable[str]
) -> None:
    # The server checks these against each other, so they travel together.
    together = {"work_pool_name", "work_queue_name", "job_variables"}
    together |= {"parameters", "parameter_openapi_schema", "enforce_parameter_schema"}
    sent = {name: wanted[name] for name in {*differing, *together}}
    client.update_deployment(deployment_id, DeploymentUpdate.model_validate(sent))


def _new_schedule(schedule: Schedule) -> DeploymentScheduleCreate:
    return DeploymentScheduleCreate.model_validate(
        {
            "schedule": schedule.when,
            "slug": schedule.slug,
            "parameters": schedule.parameters,
            "active": True,
        }
    )


def _carry_out_schedule(
    client: SyncPrefectClient, deployment_id: UUID, change: ScheduleChange
) -> None:
    path: dict[str, Any] = {"id": deployment_id}
    if change.found is not None:
        path["schedule_id"] = change.found.id
    if change.action == "create":
        assert change.wanted is not None
        body = [_new_schedule(change.wanted).model_dump(mode="json")]
        client.request("POST", "/deployments/{id}/schedules", path_params=path, json=body)
        return
    assert change.found is not None and change.found.id is not None
    if change.action == "delete":
        _cancel_scheduled_runs(client, deployment_id, schedule_id=UUID(change.found.id))
        client.delete_deployment_schedule(deployment_id, UUID(change.found.id))
        return
    assert change.wanted is not None
    client.request(
        "PATCH",
        "/deployments/{id}/schedules/{schedule_id}",
        path_params=path,
        json={"schedule": change.wanted.when, "parameters": change.wanted.parameters},
    )


def _cancel_scheduled_runs(
    client: SyncPrefectClient, deployment_id: UUID, schedule_id: UUID | None = None
) -> None:
    """Cancel what would outlive a deployment or schedule, or vanish without a trace.

    The server itself deletes runs that a schedule planned and that never started; it leaves those
    that wait for a slot or for another try, and forgets without a word what a person planned.
    """
    runs: list[FlowRun] = []
    more = True
    while more:
        page = client.read_flow_runs(
            deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[deployment_id])),
            flow_run_filter=FlowRunFilter(
                state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED]))
            ),
            limit=_PAGE,
            offset=len(runs),
        )
        runs += page
        more = len(page) == _PAGE
    for run in runs:
        is_of_schedule = run.created_by is not None and run.created_by.id == schedule_id
        if schedule_id is not None and not is_of_schedule:
            continue
        if not run.auto_scheduled or run.run_count > 0 or run.state_name == _LEFT_BY_PREFECT:
            what = "its schedule" if schedule_id else "its deployment"
            client.set_flow_run_state(
                run.id,
                Cancelled(message=f"FlowForge removed {what} from prefect.yaml."),
                force=True,
            )
