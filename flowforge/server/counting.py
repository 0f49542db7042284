"""Count the flow runs that end, from Prefect's own stream of events.

In one process every event passes once. Several servers on Redis share one consumer group, so each
event is counted by exactly one of them and the sum over all is exact.
"""

from __future__ import annotations

import json
import platform
import uuid
from typing import Any

from prefect.server.utilities.messaging import Consumer, Message, create_consumer

from flowforge.server.metrics import Meters

_FLOW_RUN_EVENT = "prefect.flow-run."
_TERMINAL = frozenset({"COMPLETED", "FAILED", "CRASHED", "CANCELLED"})
_GROUP = "flowforge-jobs-processed"


async def count_jobs(meters: Meters) -> None:
    """Count until cancelled."""

    async def count(message: Message) -> None:
        if str((message.attributes or {}).get("event", _FLOW_RUN_EVENT)).startswith(
            _FLOW_RUN_EVENT
        ):
            count_event(meters, json.loads(message.data))

    name = f"{_GROUP}-{platform.node()}-{uuid.uuid4().hex[:8]}"
    consumer: Consumer = create_consumer("events", group=_GROUP, name=name)
    try:
        await consumer.run(count)
    finally:
        await consumer.cleanup()


def count_event(meters: Meters, event: dict[str, Any]) -> None:
    """Count an event if it tells of a flow run's end."""
    if not str(event.get("event", "")).startswith(_FLOW_RUN_EVENT):
        return
    state = event.get("resource", {}).get("prefect.state-type")
    if state not in _TERMINAL:
        return
    names = {
        related.get("prefect.resource.role"): related.get("prefect.resource.name", "")
        for related in event.get("related", ())
    }
    meters.jobs.labels(
        names.get("flow", ""),
        names.get("deployment", ""),
        names.get("work-pool", ""),
        str(state).lower(),
    ).inc()
