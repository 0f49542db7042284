"""Snapshots that Amazon keeps of a replication group: which are ours, and which may go.

What is in them can be neither read nor loaded from here, so none is ever called proven. Whether
one can be restored only Amazon can show, by making a replication group from it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from pydantic import Field

from flowforge.rules import names
from flowforge.rules.backups import Copy
from flowforge.rules.retention import Retention
from flowforge.rules.values import Value

STORE = "elasticache"
"""The store named in a catalogue where Amazon itself keeps a copy."""

_STAMP = re.compile(r"-(\d{8}-\d{6})$")


class Snapshot(Value):
    """One snapshot, as Amazon describes it."""

    name: str
    arn: str
    status: str = Field(description="`creating`, `available`, `failed`, ...")
    replication_group: str
    engine: str
    engine_version: str
    node_type: str
    shards: int = 1
    size_bytes: int = Field(default=0, description="of all shards, as far as Amazon says it")


def snapshot_name(server: str, at: datetime) -> str:
    """What a snapshot of ours is called."""
    return f"flowforge-{server}-{at.astimezone(UTC):%Y%m%d-%H%M%S}"


def taken_at(server: str, snapshot: Snapshot) -> datetime | None:
    """When a snapshot of ours was asked for; `None` for anybody else's."""
    stamp = _STAMP.search(snapshot.name)
    if stamp is None:
        return None
    at = datetime.strptime(stamp[1], "%Y%m%d-%H%M%S").replace(tzinfo=UTC)
    return at if snapshot.name == snapshot_name(server, at) else None


def snapshot_entries(server: str, snapshots: Sequence[Snapshot]) -> list[Copy]:
    """Catalogue entries of the finished snapshots that are ours, newest first."""
    entries = []
    for snapshot in snapshots:
        at = taken_at(server, snapshot)
        if at is None or snapshot.status != "available":
            continue
        entries.append(
            Copy(
                server=server,
                database=names.WHOLE,
                name=names.copy_name(at),
                store=STORE,
                snapshot_at=at,
                finished_at=at,
                size_bytes=snapshot.size_bytes,
                raw_bytes=snapshot.size_bytes,
                tables=0,
                rows=0,
                system_identifier=snapshot.replication_group,
                engine=STORE,
                warnings=("kept by Amazon; it is not proven by loading it",),
            )
        )
    return sorted(entries, key=lambda copy: copy.snapshot_at, reverse=True)


def choose_expired_snapshots(
    server: str, snapshots: Sequence[Snapshot], policy: Retention, now: datetime
) -> tuple[str, ...]:
    """Names of the snapshots that may go, oldest first.

    Ours only, older than the policy's days, and never one of its last `min_proven`. Nothing goes
    while the newest is older than two periods: then something is wrong with taking them.
    """
    ours = [
        (at, snapshot.name)
        for snapshot in snapshots
        if snapshot.status == "available" and (at := taken_at(server, snapshot)) is not None
    ]
    ours.sort(reverse=True)
    if not ours or now - ours[0][0] > timedelta(hours=2 * policy.period_hours):
        return ()
    old = [name for at, name in ours[policy.min_proven :] if now - at > timedelta(days=policy.days)]
    return tuple(reversed(old))
