"""Keep an eye on how well databases are protected: for the metrics, and to tell people in time.

What a person has to know although no run failed (`flowforge.rules.alerts`) goes as an event into
Prefect's own pipeline, so automations send it on. Each is emitted once, whichever of several
servers sees it first.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from datetime import UTC, datetime

import sqlalchemy as sa
from prefect.server.events import messaging
from prefect.server.events.schemas.events import Event, Resource

from flowforge.errors import FlowForgeError
from flowforge.ledger import protection
from flowforge.rules import alerts
from flowforge.rules.alerts import Alert
from flowforge.rules.standing import NOTHING_KNOWN, Known

INTERVAL_SECONDS = 5.0
_NAMESPACE = uuid.UUID("6f0c5a52-1a5e-4a0f-9f57-5a1e0b9c7d10")
_EMIT_TIMEOUT_SECONDS = 10.0

log = logging.getLogger("flowforge.server")


class Watch:
    """What is known of the copies as last read, and who was told of what."""

    def __init__(
        self, ledger: sa.Engine | None, max_age_seconds: int, proof_max_age_seconds: int
    ) -> None:
        self.ledger = ledger
        self.max_age_seconds = max_age_seconds
        self.proof_max_age_seconds = proof_max_age_seconds
        self.known: Known = NOTHING_KNOWN
        self._told: set[tuple[str, str, str, str]] = set()
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
            self.known = await asyncio.to_thread(protection.read_known, ledger)
            for alert in self._alerts() if tell else ():
                await self._tell_once(ledger, alert)
        except FlowForgeError as error:
            if self._trouble != error.message:
                log.warning("%s", error)
            self._trouble = error.message
        else:
            self._trouble = None

    def _alerts(self) -> list[Alert]:
        now, known = datetime.now(UTC), self.known
        return [
            *alerts.find_stale(known.newest, now, self.max_age_seconds),
            *alerts.find_unverified(known.oldest, known.proven, now, self.proof_max_age_seconds),
            *alerts.find_shrunk(known.fallen),
            *alerts.find_skipped(known.runs),
        ]

    async def _tell_once(self, ledger: sa.Engine, alert: Alert) -> None:
        key = (alert.event, alert.server, alert.database, alert.about)
        if key in self._told:
            return
        loop = asyncio.get_running_loop()

        def emit() -> None:
            done = asyncio.run_coroutine_threadsafe(_emit(alert), loop)
            done.result(timeout=_EMIT_TIMEOUT_SECONDS)

        if await asyncio.to_thread(protection.tell_once, ledger, alert, emit):
            log.warning("%s: %s/%s, %s", alert.event, alert.server, alert.database, alert.about)
        self._told.add(key)


async def _emit(alert: Alert) -> None:
    place = f"{alert.server}/{alert.database}"
    event = Event(
        occurred=datetime.now(UTC),
        event=alert.event,
        resource=Resource(
            {
                "prefect.resource.id": f"flowforge.database.{alert.server}.{alert.database}",
                "prefect.resource.name": place,
            }
        ),
        payload={
            "server": alert.server,
            "database": alert.database,
            **alert.facts,
            "hint": alert.hint,
        },
        id=uuid.uuid5(_NAMESPACE, f"{alert.event}/{place}/{alert.about}"),
    )
    await messaging.publish([event.receive()])
