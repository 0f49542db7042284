"""The work pools, as data, and the template each gets from the kind of place its runs start in.

Two pools because there are two degrees of trust: operations hold the keys of databases and stores,
workers run what agents ask for and hold none of them.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
from importlib.resources import files

from pydantic import JsonValue

from flowforge.errors import Refused
from flowforge.rules.jobs.queues import QUEUES
from flowforge.rules.values import Value
from flowforge.settings import Settings

TYPES = ("process",)
OPERATIONS_CONCURRENCY = 4


class Queue(Value):
    """One queue of a pool; runs of a lower number start first."""

    name: str
    priority: int


class Pool(Value):
    """One work pool as it should be."""

    name: str
    type: str
    description: str
    concurrency_limit: int
    """Runs that may execute at a time, over all workers of the pool."""
    base_job_template: dict[str, JsonValue]
    queues: tuple[Queue, ...] = ()
    """Besides those an operator made; every pool has one called `default`."""


def list_pools(type_: str, settings: Settings) -> list[Pool]:
    """The pools of an installation whose runs start in the given kind of place.

    Raises:
        Refused: There is no template for that kind.
    """
    if type_ not in TYPES:
        raise Refused(
            f"There is no work pool template of type {type_!r}.",
            hint=f"Use one of: {', '.join(TYPES)}.",
        )
    return [
        Pool(
            name="flowforge-operations",
            type=type_,
            description="Trusted operations: backups, restores, drills. "
            "Their workers may reach databases, stores and the ledger.",
            concurrency_limit=OPERATIONS_CONCURRENCY,
            base_job_template=read_template(type_, "flowforge-operations", settings),
        ),
        Pool(
            name="flowforge-workers",
            type=type_,
            description="Agent jobs. Their workers may use the journal of jobs, and have no key "
            "to a database, a store or the rest of the ledger.",
            concurrency_limit=settings.worker_concurrency,
            base_job_template=read_template(type_, "flowforge-workers", settings),
            queues=tuple(Queue(name=one, priority=n) for n, one in enumerate(QUEUES, start=1)),
        ),
    ]


def read_template(type_: str, pool: str, settings: Settings) -> dict[str, JsonValue]:
    """The base job template of a pool, with the command its runs start by."""
    text = (files("work_pools") / f"{type_}.json").read_text(encoding="utf-8")
    template: dict[str, JsonValue] = json.loads(text)
    if type_ == "process":
        variables = template["variables"]
        assert isinstance(variables, dict)
        properties = variables["properties"]
        assert isinstance(properties, dict)
        command = properties["command"]
        assert isinstance(command, dict)
        command["default"] = process_command(pool, settings)
    return template


def process_command(pool: str, settings: Settings) -> str | None:
    """What starts a run of a process pool; `None` means Prefect's engine in a fresh process.

    Warm starts are for machines that run everything; images do not carry them.
    """
    if not settings.warm or importlib.util.find_spec("work_pools.warm") is None:
        return None
    command: str = importlib.import_module("work_pools.warm").command(pool)
    return command
