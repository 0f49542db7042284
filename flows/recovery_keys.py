"""Say whom the copies in a store are sealed to, or wrap their keys to the recipients of today.

The data of a copy is never touched: only its small key is sealed once more. So a retired recovery
key can be thrown away as soon as this says that no copy needs it.
"""

from __future__ import annotations

from typing import Literal

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flowforge.errors import Refused
from flowforge.rules import recipients
from tasks import ledger, recovery, report


@flow(timeout_seconds=4 * 3600)
def recovery_keys(store: str = "backups", action: Literal["report", "rewrap"] = "report") -> State:
    """Report the keys that open the copies in a store, or wrap the copies' keys again.

    Args:
        store: Name of the registered store.
        action: `report` touches nothing; `rewrap` seals the key of every sealed copy to the
            store's recipients, where they do not open it yet.

    Raises:
        Refused: The store has fewer than two recipients, or no key here opens some copies; all
            others were wrapped.
    """
    with ledger.recording("recovery-keys") as record:
        wrapped = 0
        closed: dict[str, str] = {}
        if action == "rewrap":
            for server, database in recovery.list_databases(store):
                done = recovery.rotate(store, server, database)
                wrapped += len(done.wrapped)
                closed |= {f"{server}/{database}/{name}": why for name, why in done.closed.items()}

        found = recovery.list_recipients(store)
        evidence = recipients.evidence(store, found)
        if action == "rewrap":
            evidence = f"{wrapped} keys wrapped again; {evidence}"
        record.done(evidence, recipients=found, wrapped=wrapped, closed=closed)
        text = recipients.report(store, found, closed)
        report.publish(f"keys {store}", text, record.evidence)
        if closed:
            raise Refused(
                f"{wrapped} keys were wrapped again; no key here opens {len(closed)} copies.",
                hint="The report names them. Save a key that opens them with `flowforge key add`, "
                "then run it again.",
            )
    return Completed(message=record.evidence)
