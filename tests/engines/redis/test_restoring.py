"""A copy of a Redis is put back as planned, and never over what nobody agreed to lose."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass

import pytest

from flowforge.engines import redis as steps
from flowforge.engines.backup.shelf import catalogue, holds
from flowforge.engines.backup.stores.folder import FolderStore
from flowforge.engines.redis import connection, copying, restoring
from flowforge.errors import Damaged, Refused
from flowforge.rules import names
from flowforge.rules.backups import Copy
from flowforge.rules.redis_copies import RedisManifest
from tests.engines.redis.conftest import Running, Start
from tests.ports import free_port

APPLY = """
import sys
from pathlib import Path
from flowforge.engines.backup.shelf import catalogue
from flowforge.engines.backup.stores.folder import FolderStore
from flowforge.engines.redis import restoring
from flowforge.rules import names
from flowforge.rules.redis_addresses import RedisAddress
from flowforge.rules.redis_copies import read_redis_manifest
target = RedisAddress.model_validate_json(sys.argv[1])
store = FolderStore("backups", Path(sys.argv[2]))
name, agreed = sys.argv[3:]
text = catalogue.read_text(store, "cache", names.WHOLE, name)
copy = next(c for c in catalogue.list_copies(store, "cache", names.WHOLE) if c.name == name)
restoring.apply(store, read_redis_manifest(text), copy, target, agreed)
"""


@dataclass(frozen=True)
class Taken:
    manifest: RedisManifest
    copy: Copy


@pytest.fixture
def taken(source: Running, store: FolderStore) -> Taken:
    """A copy of the source."""
    return take(source, store)


def take(running: Running, store: FolderStore) -> Taken:
    manifest = copying.take_copy(running.address, store)
    copies = catalogue.list_copies(store, running.address.name, names.WHOLE)
    return Taken(manifest, next(copy for copy in copies if copy.name == manifest.name))


def test_a_copy_goes_into_an_empty_redis_whole(
    source: Running, taken: Taken, store: FolderStore, start: Start
) -> None:
    target = start(name="fresh")

    plan = restoring.plan(store, taken.manifest, taken.copy, target.address)
    made, done = restoring.apply(store, taken.manifest, taken.copy, target.address, plan.digest)

    assert made.digest == plan.digest
    assert (done.key_count, done.kept_as, done.keyspace) == (10, None, {0: 8, 3: 2})
    assert target.do("DEBUG DIGEST") == source.do("DEBUG DIGEST")
    assert 0 < int(str(target.do("PTTL soon")[0])) <= 60_000_000
    assert int(str(target.do("PTTL plain")[0])) == -1


def test_large_values_and_odd_names_go_over_in_batches_without_a_loss(
    start: Start, store: FolderStore
) -> None:
    source = start()
    fill = "for n = 1, 3000 do redis.call('SET', ARGV[1] .. n, ARGV[2]:rep(n % 50)) end"
    with connection.connect(source.address) as session:
        session.execute_command("EVAL", fill, 0, b"odd \r\n$9\xff\x00", b"*1\r\n$4\r\nPING\r\n")
        session.execute_command("SET", b"", b"")
        session.execute_command("SET", "late", "x", "PXAT", 4_000_000_000_000_000)
        for number in range(3):
            session.execute_command("SET", f"large {number}", os.urandom(5_000_000))
    taken, target = take(source, store), start(name="fresh")

    plan = restoring.plan(store, taken.manifest, taken.copy, target.address)
    _, done = restoring.apply(store, taken.manifest, taken.copy, target.address, plan.digest)

    assert plan.contents.types == {"string": 3005}
    assert done.key_count == 3005
    assert target.do("DEBUG DIGEST") == source.do("DEBUG DIGEST")
    assert int(str(target.do("PTTL late")[0])) == pytest.approx(4e15 - time.time() * 1000, abs=2e4)


def test_of_many_queues_the_longest_are_named(start: Start, store: FolderStore) -> None:
    source = start()
    fill = """for n = 1, 3000 do
        for m = 1, n % 100 do redis.call('RPUSH', 'queue ' .. n, m) end
        redis.call('XADD', 'stream ' .. n, '*', 'a', 'b')
    end
    for m = 1, 200 do redis.call('XADD', 'stream 7', '*', 'a', 'b') end"""
    source.do("XGROUP CREATE events workers 0 MKSTREAM", database=2)
    with connection.connect(source.address) as session:
        session.execute_command("EVAL", fill, 0)
        session.execute_command("XGROUP", "CREATE", "stream 7", "workers", "0")

    taken = take(source, store)
    plan = restoring.plan(store, taken.manifest, taken.copy, start(name="fresh").address)

    named = [(queue.name, queue.entries, queue.groups) for queue in plan.contents.queues]
    assert named[0] == ("stream 7", 201, 1)
    assert {entries for _, entries, _ in named[1:]} == {99}
    assert len(named) == 20
    assert plan.contents.alive_in == {0: 3000 - 30 + 3000, 2: 1}


def test_the_plan_says_which_queues_would_be_worked_off_again(
    source: Running, store: FolderStore, start: Start
) -> None:
    source.do("XREADGROUP GROUP workers one COUNT 1 STREAMS events >")
    source.do("LPUSH rq:queue:default job", "SET prefect:lease x", "SET gone x PX 1")
    taken = take(source, store)

    plan = restoring.plan(store, taken.manifest, taken.copy, start(name="fresh").address)

    said = "\n".join(plan.warnings)
    assert "list 'queue' in database 0: 3 entries come back" in said
    assert "a queue of RQ, by its name" in said
    assert "stream 'events' in database 0: 1 entries come back, 1 of them delivered" in said
    assert "messaging of a Prefect server" in said
    assert plan.contents.types["stream"] == 1
    assert not plan.replaces


def test_what_was_there_is_kept_and_can_be_put_back(
    taken: Taken, store: FolderStore, start: Start
) -> None:
    target = start(name="busy")
    target.do("SET mine 1", "RPUSH list a")
    before = target.do("DEBUG DIGEST")
    plan = restoring.plan(store, taken.manifest, taken.copy, target.address)
    assert "2 keys in busy now are replaced" in "\n".join(plan.warnings)

    _, done = restoring.apply(store, taken.manifest, taken.copy, target.address, plan.digest)
    assert target.do("EXISTS mine plain") == [1]
    assert done.kept_as is not None
    (word,) = holds.list_holds(store, "busy", names.WHOLE)
    assert (word.copy_name, plan.digest in word.reason) == (done.kept_as, True)

    kept = catalogue.list_copies(store, "busy", names.WHOLE)[0]
    assert (kept.held, kept.level) == (True, 1)
    text = catalogue.read_text(store, "busy", names.WHOLE, kept.name)
    manifest = RedisManifest.model_validate_json(text)
    back = restoring.plan(store, manifest, kept, target.address)
    restoring.apply(store, manifest, kept, target.address, back.digest)
    assert target.do("DEBUG DIGEST") == before


def test_nothing_is_touched_without_the_hash_of_this_very_plan(
    taken: Taken, store: FolderStore, start: Start
) -> None:
    target = start(name="fresh")
    plan = restoring.plan(store, taken.manifest, taken.copy, target.address)
    target.do("SET arrived since")

    for agreed in (None, "0123456789ab", plan.digest):
        with pytest.raises(Refused):
            restoring.apply(store, taken.manifest, taken.copy, target.address, agreed)

    assert target.do("DBSIZE", "GET arrived") == [1, b"since"]
    assert catalogue.list_copies(store, "fresh", names.WHOLE) == []


def test_what_stands_in_the_way_is_said_in_the_plan(
    source: Running, store: FolderStore, start: Start
) -> None:
    source.do("SET far away", database=9)
    taken = take(source, store)
    small = start("--databases", "4", "--maxmemory", "100kb", name="small")
    small.do(f"REPLICAOF 127.0.0.1 {free_port()}")

    plan = restoring.plan(store, taken.manifest, taken.copy, small.address)

    said = "\n".join(plan.obstacles)
    assert "small is a replica" in said
    assert "has no database 9" in said
    assert "raise its maxmemory" in said


def test_a_target_that_runs_full_is_said_to_be_half_filled(
    source: Running, store: FolderStore, start: Start
) -> None:
    source.do(*(f"SET key:{number} {'x' * 2000}" for number in range(200)))
    taken = take(source, store)
    target = start(name="full")
    plan = restoring.plan(store, taken.manifest, taken.copy, target.address)
    with connection.connect(target.address) as session:
        used = int(connection.read_info(session)["used_memory"])
    target.do(f"CONFIG SET maxmemory {used + 60_000}")
    roomy = taken.manifest.model_copy(
        update={"server": taken.manifest.server.model_copy(update={"used_memory_bytes": 1})}
    )

    with pytest.raises(Damaged, match="half filled") as caught:
        restoring.apply(store, roomy, taken.copy, target.address, plan.digest)
    target.do("CONFIG SET maxmemory 0")
    restoring.apply(store, roomy, taken.copy, target.address, plan.digest)

    assert plan.digest in caught.value.hint
    assert target.do("DEBUG DIGEST") == source.do("DEBUG DIGEST")


@pytest.mark.parametrize(
    "at",
    [
        pytest.param(at, marks=() if at == "redis-first-keys" else pytest.mark.slow)
        for at in steps.RESTORE_STEPS
    ],
)
def test_a_restore_killed_anywhere_is_finished_by_the_same_hash(
    at: str, source: Running, taken: Taken, store: FolderStore, start: Start
) -> None:
    target = start(name="busy")
    target.do("SET mine 1")
    plan = restoring.plan(store, taken.manifest, taken.copy, target.address)
    words = [target.address.model_dump_json(), str(store.folder), taken.copy.name, plan.digest]
    command = [sys.executable, "-c", APPLY, *words]

    killed = subprocess.run(command, env={**os.environ, "FLOWFORGE_KILL_AT": at}, check=False)
    subprocess.run(command, check=True)

    assert killed.returncode == -9
    assert target.do("DEBUG DIGEST") == source.do("DEBUG DIGEST")
    kept = catalogue.list_copies(store, "busy", names.WHOLE)
    assert any(copy.rows == 1 for copy in kept)
