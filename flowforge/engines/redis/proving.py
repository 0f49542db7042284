"""Prove a copy of a Redis: read it back (L1), load it and compare what a server then holds (L3).

What is compared: the bytes with the digests of the manifest; the file with the source's own CRC-64,
once by `redis-check-rdb` and once by the server that loads it; the keys of each database, and how
many of them expire, with what the source wrote into the snapshot; and the digest of all keys and
values with that of an earlier proof. Not compared: the source as it is now, which has changed.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from flowforge.engines.backup.loading import reading
from flowforge.engines.backup.proving.trials import Timed
from flowforge.engines.backup.steps import reached
from flowforge.engines.backup.stores.store import Store
from flowforge.engines.redis import connection, programs, rdb, scratch
from flowforge.errors import Damaged, FlowForgeError, Refused, Unavailable
from flowforge.rules import redis_copies
from flowforge.rules.proofs import Level, Proof
from flowforge.rules.redis_addresses import RedisAddress
from flowforge.rules.redis_copies import KeyCounts, RedisManifest

_ROOM_FACTOR = 1.1


@dataclass(frozen=True, kw_only=True)
class _Trial(Timed):
    """One examination, and how it is written down."""

    manifest: RedisManifest

    def ends(self, level: Level, verdict: str, **facts: object) -> Proof:
        """The proof of an examination that ends now."""
        loaded = sum(self.phases.get(phase, 0.0) for phase in ("fetch", "load"))
        is_loaded = "load" in self.phases
        known = {
            "tables_total": len(self.manifest.rdb.database_offsets),
            "restore_seconds": round(loaded, 3) if is_loaded else None,
            "stored_bytes": self.manifest.data.size_bytes,
            "tool_versions": {"redis-server": programs.version("redis-server")}
            if is_loaded
            else {},
        }
        return self.proof(level, verdict, **{**known, **facts})


def _begin(manifest: RedisManifest) -> _Trial:
    return _Trial(copy_name=manifest.name, clock=time.monotonic(), manifest=manifest)


def read_back(store: Store, manifest: RedisManifest) -> Proof:
    """Read a copy whole and say whether it is what was written (L1)."""
    trial = _begin(manifest)
    cause = None
    try:
        found = rdb.check_chunks(snapshot_of(store, manifest))
        cause = next(iter(redis_copies.compare_files(manifest.rdb, found)), None)
    except (Damaged, rdb.EndsEarly) as error:
        cause = error.message
    reached("read-back")
    return trial.ends(Level.READ_BACK, "failed" if cause else "proven", cause=cause)


def prove(
    store: Store,
    manifest: RedisManifest,
    *,
    earlier: Iterable[Proof] = (),
    budget_seconds: float = 600.0,
    scratch_parent: Path | None = None,
) -> Proof:
    """Load a copy into a server of its own and compare what it then holds (L3).

    Args:
        store: Where the copy is.
        manifest: Its manifest.
        earlier: Its proofs so far; equal content has an equal digest.
        budget_seconds: How long the digest of all keys and values may take.
        scratch_parent: Folder for the server; by default the system's temporary folder.
    """
    trial = _begin(manifest)
    with scratch.folder(scratch_parent) as place:
        if lacking := what_is_lacking(manifest, place):
            return trial.ends(Level.RESTORED, "inconclusive", cause=lacking)
        try:
            with trial.phase("fetch"):
                announced = fetch(store, manifest, place)
            with contextlib.ExitStack() as stack:
                with trial.phase("load"):
                    highest = max(announced, default=0)
                    server = scratch.loaded(place, highest_database=highest)
                    address = stack.enter_context(server)
                return _compare(trial, address, announced, earlier, budget_seconds)
        except scratch.NotLoaded as end:
            verdict = "failed" if end.speaks_against_it else "inconclusive"
            return trial.ends(Level.RESTORED, verdict, cause=end.cause)
        except (Damaged, rdb.EndsEarly) as damage:
            return trial.ends(Level.READ_BACK, "failed", cause=damage.message)
        except (Unavailable, Refused) as trouble:  # of this machine or the store, not of the copy
            return trial.ends(Level.RESTORED, "inconclusive", cause=trouble.message)


def fetch(store: Store, manifest: RedisManifest, place: Path) -> Mapping[int, KeyCounts]:
    """Put the snapshot of a copy into a folder and say what it announces of each database.

    Raises:
        Damaged: It is not what was written.
    """
    with (place / scratch.SNAPSHOT).open("w+b") as file:
        file.writelines(snapshot_of(store, manifest))
        file.flush()
        found = rdb.check_file(place / scratch.SNAPSHOT)
        if differences := redis_copies.compare_files(manifest.rdb, found):
            raise reading.damaged(manifest, differences[0])
        return rdb.read_counts(file, found)


def snapshot_of(store: Store, manifest: RedisManifest) -> Iterator[bytes]:
    """The RDB file of a copy, chunk by chunk, checked as it goes by.

    Raises:
        Damaged: It is not what was written; what was yielded before is not to be trusted.
    """
    for member, packed in reading.packed_members(store, manifest):
        yield from reading.member_text(manifest, member, packed)


def what_is_lacking(manifest: RedisManifest, place: Path) -> str | None:
    """What this machine lacks to load a copy: disk for its file, memory for its keys."""
    disk, needed = shutil.disk_usage(place).free, int(manifest.rdb.size_bytes * _ROOM_FACTOR)
    if disk < needed:
        return f"the snapshot needs {needed:,} bytes of disk, {disk:,} are free here"
    memory = scratch.free_memory_bytes()
    wanted = int(manifest.server.used_memory_bytes * _ROOM_FACTOR)
    if memory < wanted:
        return f"its keys need {wanted:,} bytes of memory, {memory:,} are free here"
    return None


def content_digest(address: RedisAddress, budget_seconds: float) -> str | None:
    """A digest of all keys and values of a server, or `None` when it takes too long."""
    try:
        with connection.connect(address, answer_seconds=max(1.0, budget_seconds)) as session:
            said = session.execute_command("DEBUG", "DIGEST")
    except FlowForgeError:
        return None
    return said.decode() if isinstance(said, bytes) else str(said)


def _compare(
    trial: _Trial,
    address: RedisAddress,
    announced: Mapping[int, KeyCounts],
    earlier: Iterable[Proof],
    budget_seconds: float,
) -> Proof:
    """Everything that is asked of the server that loaded the copy."""
    with trial.phase("compare"):
        with connection.connect(address) as session:
            held = connection.keyspace(connection.read_info(session))
        differences = redis_copies.compare_loaded(announced, held)
        digest = content_digest(address, budget_seconds)
    remarks = [] if digest else [f"keys and values took more than {budget_seconds:,.0f} s to hash"]
    tools = trial.ends(Level.COMPARED, "proven").tool_versions
    before = {
        proof.content_digest
        for proof in earlier
        if proof.content_digest and proof.tool_versions == tools
    }
    if digest and before and digest not in before:
        differences += (f"keys and values hash to {digest}, to {min(before)} in an earlier proof",)
    keys = sum(counts.key_count for counts in held.values())
    reached("proof")
    return trial.ends(
        Level.COMPARED,
        "failed" if differences else "proven",
        cause=next(iter(differences), None),
        differences=differences,
        tables_digested=len(held),
        rows_compared=keys,
        contents=f"{keys:,} keys of {len(held)} databases loaded and counted, checksum right",
        content_digest=digest,
        remarks=tuple(remarks),
    )
