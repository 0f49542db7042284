"""Snapshots of a replication group of Amazon ElastiCache, which lets nobody copy it as a replica.

Amazon makes and keeps them: what is in one can be restored only as a new replication group.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import boto3
import botocore.exceptions
from botocore.config import Config

from flowforge.errors import Damaged, FlowForgeError, Refused, Unavailable
from flowforge.rules import redis_snapshots
from flowforge.rules.redis_addresses import ElastiCacheAddress
from flowforge.rules.redis_snapshots import Snapshot
from flowforge.rules.retention import Retention

WAIT_SECONDS = 3 * 3600.0
_LOOK_SECONDS = 15.0
_WAIT = frozenset(
    {"InvalidReplicationGroupState", "InvalidReplicationGroupStateFault", "Throttling"}
)
_UNITS = {"B": 1, "KB": 1024, "MB": 1024**2, "GB": 1024**3, "TB": 1024**4}


def take_snapshot(
    address: ElastiCacheAddress,
    *,
    wait_seconds: float = WAIT_SECONDS,
    look_seconds: float = _LOOK_SECONDS,
    on_look: Callable[[str], None] = lambda _: None,
) -> Snapshot:
    """Let Amazon take a snapshot and wait until it is whole.

    Args:
        address: The replication group.
        wait_seconds: How long it may take.
        look_seconds: How often it is asked for.
        on_look: Told the status every time.

    Raises:
        Refused: Amazon does not allow it.
        Unavailable: Amazon does not answer, or it takes too long.
        Damaged: It failed.
    """
    name = redis_snapshots.snapshot_name(address.name, datetime.now(UTC))
    _ask(
        address,
        "create_snapshot",
        ReplicationGroupId=address.replication_group,
        SnapshotName=name,
    )
    deadline = time.monotonic() + wait_seconds
    while True:
        found = _describe(address, SnapshotName=name)
        status = found[0].status if found else "creating"
        on_look(status)
        if status == "available":
            return found[0]
        if status == "failed":
            raise Damaged(
                f"Amazon could not take the snapshot {name}.",
                hint="Read the events of the replication group (aws elasticache describe-events), "
                "delete the failed snapshot, then run it again.",
            )
        if time.monotonic() > deadline:
            raise Unavailable(
                f"The snapshot {name} is not whole after {wait_seconds:,.0f} s.",
                hint="Amazon goes on with it; look again later before taking another.",
            )
        time.sleep(look_seconds)


def list_snapshots(address: ElastiCacheAddress) -> list[Snapshot]:
    """The snapshots somebody asked for of a replication group, whoever it was."""
    return _describe(address, ReplicationGroupId=address.replication_group, SnapshotSource="user")


def forget_expired(
    address: ElastiCacheAddress,
    snapshots: Sequence[Snapshot],
    policy: Retention,
    *,
    now: datetime | None = None,
) -> tuple[str, ...]:
    """Delete the snapshots that may go; their names, oldest first."""
    gone = redis_snapshots.choose_expired_snapshots(
        address.name, snapshots, policy, now or datetime.now(UTC)
    )
    for name in gone:
        _ask(address, "delete_snapshot", SnapshotName=name)
    return gone


def check(address: ElastiCacheAddress) -> tuple[str, str]:
    """Status of the replication group, and the type of its nodes."""
    found = _ask(
        address, "describe_replication_groups", ReplicationGroupId=address.replication_group
    )
    group = found["ReplicationGroups"][0]
    return str(group.get("Status", "unknown")), str(group.get("CacheNodeType", "unknown"))


def _describe(address: ElastiCacheAddress, **wanted: str) -> list[Snapshot]:
    snapshots: list[Snapshot] = []
    marker: dict[str, str] = {}
    while True:
        page = _ask(address, "describe_snapshots", **wanted, **marker)
        snapshots += [_read(found) for found in page.get("Snapshots", [])]
        if not page.get("Marker"):
            return snapshots
        marker = {"Marker": page["Marker"]}


def _read(found: dict[str, Any]) -> Snapshot:
    nodes = found.get("NodeSnapshots", [])
    return Snapshot(
        name=found["SnapshotName"],
        arn=found.get("ARN", ""),
        status=found["SnapshotStatus"],
        replication_group=found.get("ReplicationGroupId", ""),
        engine=found.get("Engine") or "redis",
        engine_version=found.get("EngineVersion") or "unknown",
        node_type=found.get("CacheNodeType") or "unknown",
        shards=found.get("NumNodeGroups") or 1,
        size_bytes=sum(_bytes(node.get("CacheSize", "")) for node in nodes),
    )


def _bytes(text: str) -> int:
    """A size as Amazon says it, for example `15 MB`; what cannot be read counts nothing."""
    number, _, unit = text.partition(" ")
    return int(float(number) * _UNITS[unit]) if number and unit in _UNITS else 0


def _ask(address: ElastiCacheAddress, verb: str, **fields: str) -> dict[str, Any]:
    secret = address.secret_access_key
    try:
        client: Any = boto3.session.Session().client(
            "elasticache",
            region_name=address.region,
            endpoint_url=address.endpoint_url,
            aws_access_key_id=address.access_key_id,
            aws_secret_access_key=secret.get_secret_value() if secret else None,
            config=Config(connect_timeout=10, read_timeout=60, retries={"total_max_attempts": 3}),
        )
        try:
            answer: dict[str, Any] = getattr(client, verb)(**fields)
        finally:
            client.close()
    except botocore.exceptions.ClientError as error:
        raise _explain(error, address) from error
    except botocore.exceptions.NoCredentialsError as error:
        raise Refused(
            "There are no keys for Amazon here.",
            hint="Give the operations worker a role, or put KEY:SECRET@ into the URL.",
        ) from error
    except botocore.exceptions.BotoCoreError as error:
        raise Unavailable(
            f"Amazon does not answer for {address.name}.",
            hint="Check the region and the way to its endpoint, then run it again.",
        ) from error
    return answer


def _explain(error: botocore.exceptions.ClientError, address: ElastiCacheAddress) -> FlowForgeError:
    said = error.response.get("Error", {})
    code, text = said.get("Code", "unknown"), said.get("Message", "")
    if code in _WAIT or error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0) >= 500:
        return Unavailable(f"Amazon cannot do it now ({code}): {text}", hint="Run it again later.")
    return Refused(
        f"Amazon refuses it for {address.replication_group} ({code}): {text}",
        hint="Allow elasticache:CreateSnapshot, DescribeSnapshots, DescribeReplicationGroups and "
        "DeleteSnapshot, and check the name of the group and its region.",
    )
