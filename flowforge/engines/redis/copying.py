"""Copy a Redis: what it sends a replica goes through a reader and a compressor into the store.

No byte touches a disk. The snapshot is read to its end while it streams by, so a copy is committed
only when its structure and the source's own CRC-64 are right.
"""

from __future__ import annotations

import contextlib
import itertools
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from flowforge.engines.backup.dumping.dump import flowforge_version
from flowforge.engines.backup.dumping.packing import Packer
from flowforge.engines.backup.seals import keys, sending
from flowforge.engines.backup.shelf import committing
from flowforge.engines.backup.steps import reached
from flowforge.engines.backup.stores.store import Store
from flowforge.engines.redis import connection, programs, rdb, transfer
from flowforge.engines.redis.survey import survey
from flowforge.rules import names
from flowforge.rules.backups import RunFacts, Seal, StoredObject
from flowforge.rules.redis_addresses import RedisAddress
from flowforge.rules.redis_copies import RdbFacts, RedisManifest

_HEAD_BYTES = 512


@dataclass(frozen=True)
class _Sent:
    """What was sent into the store."""

    rdb: RdbFacts
    data: StoredObject
    seal: Seal | None


def take_copy(
    address: RedisAddress,
    store: Store,
    *,
    run: RunFacts | None = None,
    quiet_seconds: float = transfer.QUIET_SECONDS,
    on_progress: Callable[[int, int], None] = lambda *_: None,
) -> RedisManifest:
    """Copy a Redis into a store and return the manifest that was committed with it.

    Args:
        address: The server.
        store: Where the copy goes.
        run: Who takes it.
        quiet_seconds: How long the server may send nothing.
        on_progress: Told how many bytes have come, and how many the data takes in memory.

    Raises:
        Refused: It does not let us in, may not be copied, or the store is full.
        Unavailable: The server or the store went away. Nothing was kept.
        Damaged: What it sent is not whole. Nothing was kept.
    """
    if store.recipients:
        keys.check_recipients(store.recipients)
    started_at, clock = datetime.now(UTC), time.monotonic()
    with connection.connect(address) as session:
        source, warnings = survey(session, address.name)
    tool = programs.version("redis-cli")
    with contextlib.closing(transfer.receive(address, quiet_seconds=quiet_seconds)) as chunks:
        head = _read_head(chunks)
        snapshot_at = rdb.created_at(head) or started_at
        name = committing.free_name(store, address.name, names.WHOLE, snapshot_at)
        stream = _watched(itertools.chain([head], chunks), source.used_memory_bytes, on_progress)
        sent = _store(store, address.name, name, stream, source.used_memory_bytes)
    reached("complete")
    if sent.rdb.crc64 is None:
        warnings = (*warnings, "the source writes no checksum (rdbchecksum no)")
    manifest = RedisManifest(
        name=name,
        tool_versions={"redis-cli": tool},
        run=run or RunFacts(host=socket.gethostname(), flowforge=flowforge_version()),
        server=source,
        started_at=started_at,
        snapshot_at=snapshot_at,
        finished_at=datetime.now(UTC),
        seconds=round(time.monotonic() - clock, 3),
        rdb=sent.rdb,
        data=sent.data,
        seal=sent.seal,
        warnings=warnings,
    )
    committing.commit(store, manifest)
    return manifest


def _read_head(chunks: Iterator[bytes]) -> bytes:
    """The first bytes, enough to know when the snapshot was begun."""
    head = b""
    while len(head) < _HEAD_BYTES and (chunk := next(chunks, b"")):
        head += chunk
    return head


def _watched(
    chunks: Iterator[bytes], expected: int, on_progress: Callable[[int, int], None]
) -> Iterator[bytes]:
    seen = 0
    for chunk in chunks:
        seen += len(chunk)
        yield chunk
        on_progress(seen, expected)


def _store(
    store: Store, server: str, name: str, chunks: Iterator[bytes], expected_bytes: int
) -> _Sent:
    """Send a snapshot into the store, its key first; commit it when it is whole."""
    identity = keys.new_key() if store.recipients else None
    if identity:
        keys.keep_key(store, server, names.WHOLE, name, identity)
    key = names.data_key(server, names.WHOLE, name, sealed=identity is not None)
    with store.upload(key, expected_bytes=expected_bytes) as upload:
        reached("upload-open")
        with sending.send(upload, identity) as sender:
            packer = Packer(sender.assembly)
            try:
                facts = _pass_on(chunks, packer)
                packer.close()
            except BaseException:
                packer.abandon()
                raise
            sent = sender.finish()
        upload.commit()
    data = StoredObject(
        key=key,
        size_bytes=sent.size_bytes,
        raw_bytes=facts.size_bytes,
        sha256=sent.sha256,
        trailer=facts.crc64 or "",
    )
    return _Sent(facts, data, sending.describe_seal(store, identity, sent))


def _pass_on(chunks: Iterator[bytes], packer: Packer) -> RdbFacts:
    """Give a snapshot to the packer, without the mark that may follow it, and read it meanwhile."""
    with contextlib.closing(rdb.Checker()) as checker:
        held, passed = b"", 0
        for chunk in chunks:
            checker.feed(chunk)
            held += chunk
            packer.put(held[: -rdb.END_MARK_BYTES])
            passed += max(0, len(held) - rdb.END_MARK_BYTES)
            held = held[-rdb.END_MARK_BYTES :]
            reached("first-chunk")
        facts = checker.finish()
        reached("children-exit")
        packer.put(held[: facts.size_bytes - passed])
        return facts
