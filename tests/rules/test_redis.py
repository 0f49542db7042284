"""What is decided about copies of Redis: addresses, comparison, what a restore would do again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from flowforge.errors import Refused
from flowforge.rules import names, redis_copies, redis_restores, redis_snapshots
from flowforge.rules.redis_addresses import ElastiCacheAddress, RedisAddress, parse_redis_url
from flowforge.rules.redis_copies import KeyCounts
from flowforge.rules.redis_restores import Contents, Queue, RedisTarget
from flowforge.rules.redis_snapshots import Snapshot
from flowforge.rules.retention import STANDARD

NOW = datetime(2025, 6, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("url", "where"),
    [
        ("redis://cache.example", "cache.example:6379"),
        ("redis://cache.example:7000/3", "cache.example:7000"),
        ("redis://me:very%2Dsecret@h", "me@h:6379"),
        ("rediss://:very-secret@h?ssl_ca_certs=/ca.pem", "h:6379 (TLS)"),
        ("unix:///run/redis.sock?db=2", "/run/redis.sock"),
        ("elasticache://orders?region=eu-west-1", "elasticache://orders?region=eu-west-1"),
    ],
)
def test_a_url_is_read_and_shown_without_its_password(url: str, where: str) -> None:
    address = parse_redis_url(url, name="cache")
    assert address.where == where
    assert "very-secret" not in repr(address)


def test_a_password_is_decoded_and_keys_of_amazon_are_its_user() -> None:
    address = parse_redis_url("redis://me:very%2Dsecret@h", name="cache")
    assert isinstance(address, RedisAddress)
    assert address.password.get_secret_value() == "very-secret"
    amazon = parse_redis_url("elasticache://KEY:word@orders?region=eu-west-1", name="cache")
    assert isinstance(amazon, ElastiCacheAddress)
    assert amazon.secret_access_key is not None
    assert (amazon.access_key_id, amazon.secret_access_key.get_secret_value()) == ("KEY", "word")


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://a:very-secret@h/d",
        "redis://a:very-secret@h/name",
        "redis://a:very-secret@h:port",
        "redis://a:very-secret@h?ssl_ca_certs=/x",
        "rediss://a:very-secret@h?ssl_cert_reqs=none",
        "elasticache://K:very-secret@orders",
        "elasticache://?region=r",
    ],
)
def test_an_unusable_url_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(Refused) as refused:
        parse_redis_url(url, name="cache")
    assert "very-secret" not in str(refused.value)


def test_a_database_that_holds_something_else_is_named() -> None:
    announced = {0: KeyCounts(key_count=3, expires=1), 3: KeyCounts(key_count=2)}

    assert redis_copies.compare_loaded(announced, dict(announced)) == ()
    found = redis_copies.compare_loaded(
        announced, {0: KeyCounts(key_count=3), 7: KeyCounts(key_count=1)}
    )

    assert [text.split(":")[0] for text in found] == ["database 0", "database 3", "database 7"]


def test_the_place_of_a_redis_is_its_own() -> None:
    key = names.data_key("cache", names.WHOLE, "backup-20250601-120000", sealed=True)
    assert key == "redis/cache/backup-20250601-120000.rdb.gz.age"
    assert names.parse_prefix(key) == ("cache", names.WHOLE)
    assert names.is_data(key)
    assert names.owner_of(key) == "redis/cache/backup-20250601-120000"


def target(**changed: object) -> RedisTarget:
    fields: dict[str, object] = {
        "server": "fresh",
        "version": "7.0.15",
        "run_id": "r",
        "is_replica": False,
        "is_cluster": False,
        "keyspace": {},
        "clients": 0,
        "free_bytes": None,
    }
    return RedisTarget.model_validate({**fields, **changed})


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({}, None),
        ({"is_replica": True}, "is a replica"),
        ({"is_cluster": True}, "node of a cluster"),
        ({"version": "6.2.0"}, "older than the 7.0"),
        ({"lacking_databases": (9,)}, "no database 9"),
        ({"free_bytes": 10}, "raise its maxmemory"),
    ],
)
def test_what_stands_in_the_way_is_an_instruction(
    changed: dict[str, object], said: str | None
) -> None:
    seen = target(**changed)
    major, minor, *_ = (int(number) for number in seen.version.split("."))
    found = redis_restores.find_obstacles(
        seen,
        loader=(7, 0),
        target_version=(major, minor),
        memory_bytes=1000,
        copy_failed=False,
    )
    assert (len(found), said is None or said in found[0]) == (int(said is not None), True)


def queue(name: str, kind: str, **changed: object) -> Queue:
    fields = {"database": 0, "name": name, "kind": kind, "entries": 5}
    return Queue.model_validate({**fields, **changed})


@pytest.mark.parametrize(
    ("queues", "said"),
    [
        ((queue("celery", "list"),), "a queue of Celery"),
        ((queue("jobs", "list"),), "5 entries come back and are done once more"),
        ((queue("log", "stream"),), "nobody reads by a group"),
        ((queue("log", "stream", groups=2, pending=3),), "what they did since is done twice"),
        (
            (queue("events", "stream", groups=4), queue("actions", "stream", groups=1)),
            "automations may act a second time",
        ),
        ((), "Cached values of 3 h ago are served again"),
    ],
)
def test_what_is_worked_off_again_is_said(queues: tuple[Queue, ...], said: str) -> None:
    held = Contents(alive_in={0: 9}, expired=0, queues=queues)
    assert said in "\n".join(redis_restores.describe_replay(held, target(), "3 h"))


def snapshot(hours_ago: float, status: str = "available", name: str | None = None) -> Snapshot:
    at = NOW - timedelta(hours=hours_ago)
    return Snapshot(
        name=name or redis_snapshots.snapshot_name("orders", at),
        arn="arn",
        status=status,
        replication_group="orders-1",
        engine="redis",
        engine_version="7.1",
        node_type="cache.r7g.large",
    )


def test_old_snapshots_of_ours_go_and_nobody_elses() -> None:
    day = 24.0
    kept = [snapshot(hours) for hours in (1, 29 * day, 31 * day)]
    old = [snapshot(60 * day), snapshot(50 * day)]
    others = [snapshot(90 * day, name="by-hand"), snapshot(40 * day, status="failed")]

    gone = redis_snapshots.choose_expired_snapshots("orders", [*others, *kept, *old], STANDARD, NOW)

    assert gone == (old[0].name, old[1].name)


def test_no_snapshot_goes_while_the_newest_is_old_or_there_are_few() -> None:
    stale = [snapshot(hours) for hours in (13, 1000, 2000, 3000, 4000)]
    few = [snapshot(hours) for hours in (1, 1000, 2000)]
    for found in (stale, few, []):
        assert redis_snapshots.choose_expired_snapshots("orders", found, STANDARD, NOW) == ()


def test_a_snapshot_of_amazons_is_listed_and_never_called_proven() -> None:
    (entry,) = redis_snapshots.snapshot_entries(
        "orders", [snapshot(1), snapshot(2, status="creating"), snapshot(3, name="by-hand")]
    )
    assert (entry.store, entry.level, entry.database) == ("elasticache", 0, names.WHOLE)
    assert entry.snapshot_at == NOW - timedelta(hours=1)
