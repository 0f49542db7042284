"""Keep an eye on the newest copies: their age for the metrics, an event when one is too old.

The event `flowforge.backup.stale` goes into Prefect's own pipeline, so automations tell people.
It is emitted once for each copy, whichever of several servers sees it first.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime

import sqlalchemy as sa
from prefect.server.events import messaging
from prefect.server.events.schemas.events import Event, Resource

from flowforge.errors import FlowForgeError
from flowforge.ledger import queries
from flowforge.rules.backups import Copy

INTERVAL_SECONDS = 5.0
EVENT = "flowforge.backup.stale"
_NAMESPACE = uuid.UUID("6f0c5a52-1a5e-4a0f-9f57-5a1e0b9c7d10")
_EMIT_TIMEOUT_SECONDS = 10.0

log = logging.getLogger("flowforge.server")


class Watch:
    """The newest copies as last read, and who was told of their age."""

    def __init__(self, ledger: sa.Engine | None, max_age_seconds: int) -> None:
        self.ledger = ledger
        self.max_age_seconds = max_age_seconds
        self.newest: Sequence[Copy] = ()
        self._told: set[tuple[str, str, str]] = set()
        self._trouble: str | None = None

    async def run(self) -> None:
        """Look until cancelled."""
        if self.ledger is None:
            await asyncio.Event().wait()
            return
        await self._look(self.ledger, tell=False)  # Prefect may still be loading its automations
        while True:
            await asyncio.sleep(INTERVAL_SECONDS)
            await self._look(self.ledger, tell=True)

    async def _look(self, ledger: sa.Engine, *, tell: bool) -> None:
        try:
            self.newest = await asyncio.to_thread(queries.newest_copies, ledger)
            for copy in self.newest if tell else ():
                await self._tell_if_stale(ledger, copy)
        except FlowForgeError as error:
            if self._trouble != error.message:
                log.warning("%s", error)
            self._trouble = error.message
        else:
            self._trouble = None

    async def _tell_if_stale(self, ledger: sa.Engine, copy: Copy) -> None:
        age_seconds = (datetime.now(UTC) - copy.snapshot_at).total_seconds()
        key = (copy.server, copy.database, copy.name)
        if age_seconds <= self.max_age_seconds or key in self._told:
            return
        loop = asyncio.get_running_loop()

        def emit() -> None:
            done = asyncio.run_coroutine_threadsafe(_emit(copy, age_seconds), loop)
            done.result(timeout=_EMIT_TIMEOUT_SECONDS)

        if await asyncio.to_thread(queries.tell_once, ledger, copy, emit):
            log.warning("the newest copy of %s/%s is %s", copy.server, copy.database, copy.name)
        self._told.add(key)


async def _emit(copy: Copy, age_seconds: float) -> None:
    place = f"{copy.server}/{copy.database}"
    event = Event(
        occurred=datetime.now(UTC),
        event=EVENT,
        resource=Resource(
            {
                "prefect.resource.id": f"flowforge.database.{copy.server}.{copy.database}",
                "prefect.resource.name": place,
            }
        ),
        payload={
            "server": copy.server,
            "database": copy.database,
            "newest_copy": copy.name,
            "age_seconds": round(age_seconds),
            "hint": f"Look at the failed runs of backup-postgres for {place}, then run "
            f"`flowforge backup run {copy.server}`.",
        },
        id=uuid.uuid5(_NAMESPACE, f"{place}/{copy.name}"),
    )
    await messaging.publish([event.receive()])
