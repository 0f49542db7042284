"""Read `prefect.yaml` and the flows it names into wanted deployments, or say every problem.

Nothing here talks to a server. Importing the flows is part of the reading: their parameters decide
what a deployment may set, and a flow that does not import would only fail at night.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import yaml
from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule, RRuleSchedule
from prefect.exceptions import MissingFlowError, ScriptError
from prefect.flows import Flow, load_flow_from_entrypoint
from prefect.utilities.callables import parameter_schema
from prefect.utilities.schema_tools.validation import (
    CircularSchemaRefError,
    validate,
)
from prefect.utilities.schema_tools.validation import ValidationError as SchemaError
from pydantic import JsonValue, ValidationError

from flowforge.errors import Refused
from flowforge.rules.deployment_file import Problem, read_content, without_repeats
from flowforge.rules.deployments import (
    TAG,
    Deployment,
    DeploymentEntry,
    Fields,
    PrefectFile,
    Schedule,
    ScheduleEntry,
)

FILE_NAME = "prefect.yaml"
_SET_FOLDER = "prefect.deployments.steps.set_working_directory"
_REPAIR_SCHEDULE = "Correct the schedule; https://crontab.guru explains cron."


@dataclass(frozen=True)
class Reading:
    """What the file wants, as far as it could be read, and what is wrong with it."""

    path: Path
    wanted: tuple[Deployment, ...]
    problems: tuple[Problem, ...]


def read_deployments(home: Path) -> Reading:
    """Read the deployments of a folder with `prefect.yaml` and `flows/`.

    Raises:
        Refused: There is no such file, or it is not YAML.
    """
    path = home / FILE_NAME
    variables = {**os.environ, "FLOWFORGE_HOME": str(home)}
    file, problems = read_content(_load_yaml(path), variables)
    if file is None:
        return Reading(path, (), tuple(problems))
    if str(home) not in sys.path:
        sys.path.insert(0, str(home))
    wanted: list[Deployment] = []
    for entry in file.deployments:
        flow = _load_flow(home, entry, problems)
        schedules = [_read_schedule(entry, one, problems) for one in entry.schedules]
        if flow is not None:
            _check_parameters(entry, flow, problems)
            wanted.append(_describe(home, file, entry, flow, [one for one in schedules if one]))
    problems += _find_clashes(wanted)
    return Reading(path, tuple(wanted), tuple(without_repeats(problems)))


def refuse(path: Path, problems: Sequence[Problem]) -> Refused:
    """One refusal that names every problem."""
    count = "a problem" if len(problems) == 1 else f"{len(problems)} problems"
    lines = "\n".join(f"  - {problem}" for problem in problems)
    return Refused(
        f"{path} has {count}:\n{lines}",
        hint="Correct what is named above, then deploy again; nothing was touched.",
        problems=[problem.model_dump(mode="json") for problem in problems],
    )


class _StrictLoader(yaml.SafeLoader):
    """YAML that refuses a key given twice, where the last one would silently win."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            if not isinstance(key_node, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(
                    None, None, "a placeholder {{ ... }} needs quotes", key_node.start_mark
                )
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} is there twice", key_node.start_mark
                )
            seen.add(key)
        return cast(dict[Any, Any], super().construct_mapping(node, deep=deep))


def _load_yaml(path: Path) -> object:
    try:
        return yaml.load(path.read_bytes(), Loader=_StrictLoader)
    except FileNotFoundError as error:
        raise Refused(
            f"There is no {path}.",
            hint="Set FLOWFORGE_HOME to the folder that holds prefect.yaml and flows/.",
        ) from error
    except OSError as error:
        raise Refused(
            f"{path} cannot be read: {error.strerror}.", hint="Give this user the right to read it."
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        said = " ".join(str(error).split())
        raise Refused(
            f"{path} is not YAML: {said}.", hint="Correct the line it names; nothing was touched."
        ) from error


def _load_flow(
    home: Path, entry: DeploymentEntry, problems: list[Problem]
) -> Flow[..., Any] | None:
    file_name, _, function = entry.entrypoint.rpartition(":")
    message = ""
    hint = "Correct the entrypoint, or the file it names."
    if not (home / file_name).resolve().is_relative_to(home.resolve()):
        message, hint = f"{file_name} lies outside {home}.", "Name a file below that folder."
    elif not (home / file_name).is_file():
        message = f"there is no file {home / file_name}."
    else:
        try:
            with warnings.catch_warnings():
                # Prefect makes a model of the parameters; one called `copy` hides nothing in use.
                warnings.filterwarnings("ignore", message="Field name .* shadows an attribute")
                return load_flow_from_entrypoint(
                    f"{home / file_name}:{function}", use_placeholder_flow=False
                )
        except (MissingFlowError, AttributeError):
            message = f"{file_name} has no flow named {function}."
        except ScriptError as error:
            reason = error.user_exc
            said = " ".join(str(reason).split())[:300]
            message = f"{file_name} does not import: {type(reason).__name__}: {said}."
            hint = "Make it import: `python -c 'import flows.NAME'` shows the whole trace."
    problems.append(Problem(entry=entry.name, field="entrypoint", message=message, hint=hint))
    return None


def _read_schedule(
    entry: DeploymentEntry, schedule: ScheduleEntry, problems: list[Problem]
) -> Schedule | None:
    try:
        when: CronSchedule | IntervalSchedule | RRuleSchedule
        if schedule.cron is not None:
            when = CronSchedule(
                cron=schedule.cron, timezone=schedule.timezone, day_or=schedule.day_or
            )
        elif schedule.interval is not None:
            when = IntervalSchedule.model_validate(
                {
                    "interval": schedule.interval,
                    "anchor_date": schedule.anchor_date,
                    "timezone": schedule.timezone,
                }
            )
        else:
            when = RRuleSchedule(rrule=schedule.rrule or "", timezone=schedule.timezone)
    except ValidationError as error:
        for one in error.errors(include_url=False):
            field = str(one["loc"][0]) if one["loc"] else "cron"
            problems.append(
                Problem(
                    entry=entry.name,
                    field=f"schedules.{schedule.slug}.{field}",
                    message=one["msg"].removeprefix("Value error, ").rstrip(".") + ".",
                    hint="Use a name such as UTC." if field == "timezone" else _REPAIR_SCHEDULE,
                )
            )
        return None
    return Schedule(
        slug=schedule.slug, when=when.model_dump(mode="json"), parameters=schedule.parameters
    )


def _check_parameters(
    entry: DeploymentEntry, flow: Flow[..., Any], problems: list[Problem]
) -> None:
    known = parameter_schema(flow).model_dump(exclude_unset=True)
    places = [("parameters", entry.parameters, True)]
    places += [
        (f"schedules.{one.slug}.parameters", {**entry.parameters, **one.parameters}, False)
        for one in entry.schedules
    ]
    for field, values, is_partial in places:
        unknown = sorted(set(values) - set(known["properties"]))
        if unknown:
            if is_partial or set(unknown) - set(entry.parameters):
                problems.append(_unknown_parameters(entry, field, unknown, known))
            continue
        try:
            validate(values, known, raise_on_error=True, ignore_required=is_partial)
        except (SchemaError, CircularSchemaRefError) as error:
            problems.append(
                Problem(
                    entry=entry.name,
                    field=field,
                    message=f"{flow.name} would refuse them: {' '.join(str(error).split())[:300]}.",
                    hint="Correct the value, or give what is missing: nobody is there to ask.",
                )
            )


def _unknown_parameters(
    entry: DeploymentEntry, field: str, unknown: list[str], schema: Mapping[str, Any]
) -> Problem:
    return Problem(
        entry=entry.name,
        field=field,
        message=f"the flow has no parameter {', '.join(unknown)}.",
        hint=f"It has {', '.join(schema['properties']) or 'none'}.",
    )


def _describe(
    home: Path,
    file: PrefectFile,
    entry: DeploymentEntry,
    flow: Flow[..., Any],
    schedules: list[Schedule],
) -> Deployment:
    concurrency = entry.concurrency_limit
    options: JsonValue = None
    if concurrency is not None:
        options = concurrency.model_dump(mode="json", exclude={"limit"}, exclude_none=True)
    pull = entry.pull if entry.pull is not None else file.pull
    if pull is None:
        pull = [{_SET_FOLDER: {"directory": str(home)}}]
    fields: Fields = {
        "entrypoint": entry.entrypoint,
        "version": entry.version or flow.version,
        "description": entry.description or flow.description,
        "tags": [*entry.tags, *([] if TAG in entry.tags else [TAG])],
        "work_pool_name": entry.work_pool.name,
        "work_queue_name": entry.work_pool.work_queue_name or "default",
        "job_variables": entry.work_pool.job_variables,
        "parameters": entry.parameters,
        "parameter_openapi_schema": parameter_schema(flow).model_dump(exclude_unset=True),
        "enforce_parameter_schema": entry.enforce_parameter_schema,
        "concurrency_limit": concurrency.limit if concurrency else None,
        "concurrency_options": options,
        "pull_steps": [*pull],
        "path": None,
    }
    return Deployment(
        flow_name=flow.name,
        name=entry.name,
        fields=fields,
        schedules=tuple(schedules),
        paused=entry.paused,
    )


def _find_clashes(wanted: list[Deployment]) -> list[Problem]:
    names = [deployment.full_name for deployment in wanted]
    return [
        Problem(
            entry=name.partition("/")[2],
            field="name",
            message=f"{name} is there twice.",
            hint="Rename or remove one; flow and name together must be unique.",
        )
        for name in sorted({name for name in names if names.count(name) > 1})
    ]
