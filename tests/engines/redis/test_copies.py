"""A copy of a Redis is whole and proven by loading it."""

from __future__ import annotations

import gzip
import subprocess
import time
from pathlib import Path

import pyrage

from flowforge.engines.backup.shelf import catalogue, forget, inventory
from flowforge.engines.backup.stores.folder import FolderStore
from flowforge.engines.redis import copying, proving, restoring
from flowforge.rules import names
from flowforge.rules.backups import Level
from tests.engines.redis.conftest import Running


def test_a_copy_is_taken_proven_and_listed(source: Running, store: FolderStore) -> None:
    manifest = copying.take_copy(source.address, store)
    read_back = proving.read_back(store, manifest)
    proof = proving.prove(store, manifest)

    assert (manifest.rdb.key_count, manifest.rdb.expires) == (10, 2)
    assert manifest.rdb.replication_id
    assert (read_back.verdict, read_back.level) == ("proven", Level.READ_BACK)
    assert (proof.verdict, proof.level) == ("proven", Level.COMPARED), proof.cause
    assert "10 keys of 2 databases" in proof.summary()
    assert [proof.content_digest] == [str(source.do("DEBUG DIGEST")[0], "ascii")]  # type: ignore[call-overload]
    for made in (read_back, proof):
        catalogue.add_proof(store, manifest, made)
    copies = catalogue.list_copies(store, "cache", names.WHOLE)
    assert [(copy.name, copy.level, copy.rows) for copy in copies] == [
        (manifest.name, Level.COMPARED, 10)
    ]
    assert catalogue.read_catalogue(store)[0] == copies


def test_plain_gunzip_and_a_plain_redis_read_a_copy(
    source: Running, store: FolderStore, tmp_path: Path
) -> None:
    manifest = copying.take_copy(source.address, store)
    stored = store.folder / f"redis/cache/{manifest.name}.rdb.gz"

    snapshot = tmp_path / "dump.rdb"
    snapshot.write_bytes(gzip.decompress(stored.read_bytes()))
    checked = subprocess.run(
        ["redis-check-rdb", str(snapshot)], capture_output=True, text=True, check=False
    )

    assert checked.returncode == 0
    assert "10 keys read" in checked.stdout
    assert snapshot.stat().st_size == manifest.rdb.size_bytes


def test_an_old_copy_is_proven_though_its_keys_have_expired_since(
    source: Running, store: FolderStore
) -> None:
    source.do("SET gone x PX 400", "SET stays y")
    manifest = copying.take_copy(source.address, store)
    deadline = time.monotonic() + 10
    while source.do("EXISTS gone") != [0] and time.monotonic() < deadline:
        time.sleep(0.05)

    proof = proving.prove(store, manifest)
    with restoring.opened(store, manifest) as (_, held):
        pass

    assert manifest.rdb.key_count == 12
    assert proof.verdict == "proven", proof.cause
    assert proof.rows_compared == 12
    assert (held.alive, held.expired) == (11, 1)


def test_two_proofs_of_one_copy_agree_and_a_third_that_differs_is_told(
    source: Running, store: FolderStore
) -> None:
    manifest = copying.take_copy(source.address, store)
    first = proving.prove(store, manifest)

    second = proving.prove(store, manifest, earlier=[first])
    other = first.model_copy(update={"content_digest": "0" * 40})
    third = proving.prove(store, manifest, earlier=[other])

    assert second.verdict == "proven"
    assert second.content_digest == first.content_digest
    assert third.verdict == "failed"
    assert "in an earlier proof" in str(third.cause)


def test_an_empty_redis_has_a_copy_too(source: Running, store: FolderStore) -> None:
    source.do("FLUSHALL")
    manifest = copying.take_copy(source.address, store)

    proof = proving.prove(store, manifest)

    assert manifest.rdb.key_count == 0
    assert proof.verdict == "proven"


def test_a_copy_in_a_sealed_store_is_sealed(source: Running, tmp_path: Path) -> None:
    owners = [pyrage.x25519.Identity.generate() for _ in range(2)]
    recipients = tuple(str(one.to_public()) for one in owners)
    vault = FolderStore("vault", tmp_path / "vault", recipients=recipients)

    manifest = copying.take_copy(source.address, vault)

    assert manifest.data.key.endswith(".rdb.gz.age")
    assert b"age-encryption.org" in (vault.folder / manifest.data.key).read_bytes()[:40]
    assert proving.read_back(vault, manifest).verdict == "proven"
    assert proving.prove(vault, manifest).verdict == "proven"


def test_a_copy_that_does_not_fit_here_is_inconclusive(source: Running, store: FolderStore) -> None:
    manifest = copying.take_copy(source.address, store)
    server = manifest.server.model_copy(update={"used_memory_bytes": 10**15})
    huge = manifest.model_copy(update={"server": server})

    proof = proving.prove(store, huge)

    assert proof.verdict == "inconclusive"
    assert "bytes of memory" in str(proof.cause)


def test_copies_of_a_redis_and_of_a_database_lie_apart(source: Running, store: FolderStore) -> None:
    manifest = copying.take_copy(source.address, store)
    store.put_new(names.manifest_key("cache", "app", manifest.name), b"not read here")

    found = inventory.take_all(store)

    assert set(found) == {("cache", names.WHOLE), ("cache", "app")}
    assert names.owner_of(manifest.data.key) == f"redis/cache/{manifest.name}"
    gone = forget.forget(store, found["cache", names.WHOLE], [manifest.name]).gone
    assert gone == [manifest.name]
    assert [stored.key for stored in store.listing("redis/")] == []
