"""Amazon takes snapshots of a replication group; ours are listed and deleted when they are old."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from pydantic import SecretStr

from flowforge.engines.redis import elasticache
from flowforge.errors import Refused, Unavailable
from flowforge.rules.redis_addresses import ElastiCacheAddress
from flowforge.rules.retention import Retention


@pytest.fixture
def group(buckets: str) -> ElastiCacheAddress:
    """A replication group at a service like Amazon's."""
    address = ElastiCacheAddress(
        name="orders",
        replication_group="orders-1",
        region="eu-west-1",
        endpoint_url=buckets,
        access_key_id="key",
        secret_access_key=SecretStr("secret"),
    )
    client: Any = boto3.session.Session().client(
        "elasticache",
        region_name=address.region,
        endpoint_url=buckets,
        aws_access_key_id="key",
        aws_secret_access_key="secret",
    )
    known = client.describe_replication_groups()["ReplicationGroups"]
    if not known:
        client.create_replication_group(
            ReplicationGroupId="orders-1", ReplicationGroupDescription="orders"
        )
    for found in client.describe_snapshots()["Snapshots"]:
        client.delete_snapshot(SnapshotName=found["SnapshotName"])
    client.close()
    return address


def test_a_snapshot_is_taken_and_waited_for(group: ElastiCacheAddress) -> None:
    seen: list[str] = []

    taken = elasticache.take_snapshot(group, on_look=seen.append)

    assert seen[-1] == taken.status == "available"
    assert taken.replication_group == "orders-1"
    assert taken.name.startswith("flowforge-orders-")
    assert elasticache.check(group)[0] == "available"


def test_old_snapshots_are_deleted(group: ElastiCacheAddress) -> None:
    taken = elasticache.take_snapshot(group)
    policy = Retention(days=1, period_hours=10_000, min_proven=1)
    later = datetime.now(UTC) + timedelta(days=3)
    newer = taken.model_copy(update={"name": f"flowforge-orders-{later:%Y%m%d-%H%M%S}"})

    gone = elasticache.forget_expired(group, [taken, newer], policy, now=later)

    assert gone == (taken.name,)
    assert elasticache.list_snapshots(group) == []


def test_an_unknown_group_is_refused_and_a_silent_amazon_is_unavailable(
    group: ElastiCacheAddress,
) -> None:
    nobody = group.model_copy(update={"replication_group": "nobody"})
    with pytest.raises(Refused, match="Amazon refuses it for nobody"):
        elasticache.take_snapshot(nobody)
    silent = group.model_copy(update={"endpoint_url": "http://127.0.0.1:9"})
    with pytest.raises(Unavailable, match="does not answer"):
        elasticache.check(silent)
