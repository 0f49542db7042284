"""A copy of a Redis is whole, or there is none."""

from __future__ import annotations

from flowforge.engines.backup import catalogue
from flowforge.engines.backup.folder import FolderStore
from flowforge.engines.redis import copying, proving
from flowforge.rules import names
from flowforge.rules.proofs import Level
from tests.engines.redis.conftest import Running


def test_a_copy_is_taken_proven_and_listed(source: Running, store: FolderStore) -> None:
    manifest = copying.take_copy(source.address, store)
    read_back = proving.read_back(store, manifest)
    proof = proving.prove(store, manifest)

    assert (manifest.rdb.keys, manifest.rdb.expires) == (10, 2)
    assert manifest.rdb.replication_id
    assert (read_back.verdict, read_back.level) == ("proven", Level.READ_BACK)
    assert (proof.verdict, proof.level) == ("proven", Level.COMPARED), proof.cause
    assert "10 keys of 2 databases" in proof.summary()
    for made in (read_back, proof):
        catalogue.add_proof(store, manifest, made)
    copies = catalogue.list_copies(store, "cache", names.WHOLE)
    assert [(copy.name, copy.level, copy.rows) for copy in copies] == [
        (manifest.name, Level.COMPARED, 10)
    ]
