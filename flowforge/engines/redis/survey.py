"""Look at a Redis before it is copied: what it is, how much it holds, what is in the way."""

from __future__ import annotations

from flowforge.engines.redis import connection
from flowforge.errors import Refused, Unavailable
from flowforge.rules.redis_copies import RedisFacts


def survey(session: connection.Session, name: str) -> tuple[RedisFacts, tuple[str, ...]]:
    """What a Redis says of itself, and what a person should know about a copy of it.

    Raises:
        Refused: It is one node of a cluster, which holds only a part of the keys.
        Unavailable: It is still loading its data.
    """
    info = connection.read_info(session)
    if info.get("loading"):
        raise Unavailable(f"{name} is loading its data.", hint="Wait until it has; then again.")
    if info.get("cluster_enabled"):
        raise Refused(
            f"{name} is a node of a Redis Cluster: it holds only a part of the keys.",
            hint="A moment common to all nodes cannot be copied by replication. On ElastiCache "
            "register the replication group (elasticache://GROUP?region=REGION).",
        )
    facts = RedisFacts(
        name=name,
        version=str(info.get("valkey_version") or info["redis_version"]),
        run_id=str(info["run_id"]),
        is_replica=info["role"] == "slave",
        used_memory_bytes=info["used_memory"],
        keyspace=connection.keyspace(info),
    )
    return facts, tuple(_warnings(info))


def _warnings(info: dict[str, object]) -> list[str]:
    found = []
    if info.get("role") == "slave" and info.get("master_link_status") != "up":
        seconds = info.get("master_link_down_since_seconds", "unknown")
        found.append(f"it is a replica that lost its master {seconds} s ago: the copy is that old")
    if info.get("modules"):
        found.append("it has modules: a server without them does not load what they keep")
    return found
