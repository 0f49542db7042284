"""Read the content of `prefect.yaml` strictly, and say every problem at once, where it is.

The content is what a YAML reader made of the file. Variables come in as a mapping; nothing here
looks at the process environment.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from flowforge.rules.deployment_mending import UNSET, mend
from flowforge.rules.deployments import (
    ConcurrencyEntry,
    DeploymentEntry,
    PoolEntry,
    PrefectFile,
    ScheduleEntry,
)
from flowforge.rules.values import Value

_PLACEHOLDER = re.compile(r"\{\{\s*([^{}]*?)\s*\}\}")
_VARIABLE = re.compile(r"^\$([A-Za-z_][A-Za-z0-9_]*)$")
_Path = tuple[str | int, ...]
_MENDINGS = 5
"""Some rules look only at what is otherwise right, so mending may uncover another break."""

# Keys that Prefect knows and this file must not have, with what to do instead.
_REFUSED_KEYS: Mapping[str, str] = {
    "active": "Remove it: people pause a schedule in the UI, and the pause survives deploying.",
    "schedule": "Write it as a list under `schedules`, each with a slug and a timezone.",
    "triggers": "Remove it: automations are data in flowforge/automations.py.",
    "sla": "Remove it: it exists in Prefect Cloud only.",
    "build": "Remove it: images are built before deploying.",
    "push": "Remove it: images are pushed before deploying.",
    "replaces": "Remove it: a slug that left the file is removed by itself.",
    "flow_name": "Remove it: the name is read from the flow.",
    "version_type": "Remove it: the version is the flow file's hash unless `version` is given.",
    "max_scheduled_runs": "Remove it: prefect.yaml does not know it.",
}
_HINTS: Mapping[str, str] = {
    "slug": "Give it a short name of its own (lowercase, digits, dashes), and never change it: "
    "by the slug the schedule keeps its id and an operator's pause.",
    "timezone": "Add `timezone: UTC`, or the zone the cron is meant in.",
    "name": "Give it a name: one to 200 characters without / % & < >.",
    "work_pool": "Add `work_pool: {name: ...}`; pools are listed in work_pools/pools.py.",
    "anchor_date": 'Write it in quotes, for example "2026-01-01T00:00:00Z".',
    "entrypoint": "Write it as path/to/file.py:function, relative to the folder of prefect.yaml.",
}
_KNOWN_KEYS: Mapping[str, list[str]] = {
    "": [field.alias or name for name, field in PrefectFile.model_fields.items()],
    "deployment": list(DeploymentEntry.model_fields),
    "schedules": list(ScheduleEntry.model_fields),
    "work_pool": list(PoolEntry.model_fields),
    "concurrency_limit": list(ConcurrencyEntry.model_fields),
}


class Problem(Value):
    """One thing wrong with the file."""

    entry: str
    """The deployment's name, or its place in the list; empty for the file itself."""
    field: str
    message: str
    hint: str

    def __str__(self) -> str:
        where = f"deployment {self.entry!r}, {self.field}" if self.entry else self.field
        return f"{where}: {self.message} {self.hint}"


def read_content(
    content: object, variables: Mapping[str, str]
) -> tuple[PrefectFile | None, list[Problem]]:
    """Read the content of the file.

    Args:
        content: What YAML made of it.
        variables: Values for `{{ $NAME }}`.

    Returns:
        The file, and everything that is wrong with it. When there is something, the file is mended
        and good for nothing but to look for more; `None` when even that is not possible.
    """
    if not isinstance(content, dict):
        return None, [
            Problem(
                entry="",
                field="the file",
                message="holds no mapping.",
                hint="Start it with `deployments:`.",
            )
        ]
    problems: list[Problem] = []
    filled = {
        key: value if key == "definitions" else _fill(value, variables, (key,), content, problems)
        for key, value in content.items()
    }
    for _ in range(_MENDINGS):
        try:
            file = PrefectFile.model_validate(filled)
        except ValidationError as error:
            problems += _explain(error, content)
            broken = [(one["loc"], one["type"] == "extra_forbidden") for one in error.errors()]
            filled = mend(filled, broken)
        else:
            return file, without_repeats(problems + _find_duplicates(file))
    return None, without_repeats(problems)


def _fill(
    value: Any,
    variables: Mapping[str, str],
    path: _Path,
    content: Mapping[str, Any],
    problems: list[Problem],
) -> Any:
    if isinstance(value, dict):
        return {
            key: _fill(item, variables, (*path, key), content, problems)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [
            _fill(item, variables, (*path, index), content, problems)
            for index, item in enumerate(value)
        ]
    if not isinstance(value, str):
        return value
    for match in _PLACEHOLDER.finditer(value):
        if problem := _check_placeholder(match, variables, _locate(path, content)):
            problems.append(problem)
    return _PLACEHOLDER.sub(lambda match: variables.get(match[1][1:]) or UNSET, value)


def _check_placeholder(
    match: re.Match[str], variables: Mapping[str, str], place: tuple[str, str]
) -> Problem | None:
    entry, field = place
    name = _VARIABLE.match(match[1])
    if name is None:
        return Problem(
            entry=entry,
            field=field,
            message=f"has the placeholder {match[0]}, which would be stored in plain text.",
            hint="Only {{ $NAME }} of the environment is filled in; name secrets by block.",
        )
    if not variables.get(name[1]):
        return Problem(
            entry=entry,
            field=field,
            message=f"needs the environment variable {name[1]}, which is not set.",
            hint=f"Set {name[1]} where you deploy from, or write the value.",
        )
    return None


def _explain(error: ValidationError, content: Mapping[str, Any]) -> list[Problem]:
    problems = []
    for one in error.errors(include_url=False):
        path: _Path = one["loc"]
        key = str(path[-1]) if path else ""
        entry, field = _locate(path, content)
        message, hint = _phrase(one["type"], str(one["msg"]), key, path)
        problems.append(Problem(entry=entry, field=field, message=message, hint=hint))
    return problems


def _phrase(kind: str, message: str, key: str, path: _Path) -> tuple[str, str]:
    if kind == "extra_forbidden":
        if key in _REFUSED_KEYS:
            return "does not belong into this file.", _REFUSED_KEYS[key]
        known = _KNOWN_KEYS.get(_room(path[:-1]), [])
        close = difflib.get_close_matches(key, known, n=1)
        hint = f"Did you mean `{close[0]}`?" if close else f"Known are {', '.join(known)}."
        return "is not a known key.", hint
    hint = _HINTS.get(key, "Correct the value.")
    if kind == "missing":
        return "is missing.", hint
    return message.removeprefix("Value error, ").rstrip(".") + ".", hint


def _room(path: _Path) -> str:
    names = [part for part in path if isinstance(part, str)]
    return "" if not names else "deployment" if names == ["deployments"] else names[-1]


def _locate(path: _Path, content: Mapping[str, Any]) -> tuple[str, str]:
    """Name the entry and the field of a path, by names and slugs rather than by numbers."""
    if len(path) < 2 or path[0] != "deployments" or not isinstance(path[1], int):
        return "", _join(path)
    node: Any = content.get("deployments")
    node = node[path[1]] if isinstance(node, list) and path[1] < len(node) else None
    entry = _label(node, "name", path[1])
    shown: list[str | int] = []
    for part in path[2:]:
        node = _child(node, part)
        shown.append(_label(node, "slug", part) if isinstance(part, int) else part)
    return entry, _join(tuple(shown)) or "the entry"


def _child(node: Any, part: str | int) -> Any:
    if isinstance(node, dict):
        return node.get(part)
    if isinstance(node, list) and isinstance(part, int) and part < len(node):
        return node[part]
    return None


def _label(node: Any, key: str, index: int) -> str:
    name = node.get(key) if isinstance(node, dict) else None
    return str(name) if name else f"#{index + 1}"


def _join(path: _Path) -> str:
    return ".".join(str(part) for part in path)


def _find_duplicates(file: PrefectFile) -> list[Problem]:
    problems = []
    seen: set[tuple[str, str]] = set()
    for deployment in file.deployments:
        identity = (deployment.entrypoint, deployment.name)
        if identity in seen:
            problems.append(
                Problem(
                    entry=deployment.name,
                    field="name",
                    message=f"is there twice for {deployment.entrypoint}.",
                    hint="Rename or remove one.",
                )
            )
        seen.add(identity)
        slugs = [schedule.slug for schedule in deployment.schedules]
        problems += [
            Problem(
                entry=deployment.name,
                field=f"schedules.{slug}",
                message="has a slug that another schedule of this deployment has.",
                hint="Give each schedule a slug of its own.",
            )
            for slug in sorted({slug for slug in slugs if slugs.count(slug) > 1})
        ]
    return problems


def without_repeats(problems: Sequence[Problem]) -> list[Problem]:
    """Leave out what only follows from another problem: the same place, around it or inside it."""
    kept: list[Problem] = []
    for problem in problems:
        if not any(_is_around(one, problem) or _is_around(problem, one) for one in kept):
            kept.append(problem)
    return kept


def _is_around(outer: Problem, inner: Problem) -> bool:
    if outer.entry != inner.entry:
        return False
    return outer.field in ("the entry", inner.field) or inner.field.startswith(f"{outer.field}.")
