"""Put a copy of a Redis back: plan it, agree to the plan's hash, and only then fill a server.

The copy is loaded into a server of its own, and each living key is handed from there to the target
(DUMP and RESTORE), so it works on any Redis that is reached over the network. While the target is
being filled a key in it says by which plan: who is killed finishes with the same hash.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import redis

from flowforge.engines.backup.shelf import catalogue, holds
from flowforge.engines.backup.steps import reached
from flowforge.engines.backup.stores.store import Store
from flowforge.engines.redis import (
    connection,
    contents,
    copying,
    handing,
    programs,
    proving,
    scratch,
)
from flowforge.engines.redis.connection import Session
from flowforge.errors import Damaged, Refused, Unavailable
from flowforge.rules import names, redis_restores
from flowforge.rules.backups import Copy, RunFacts
from flowforge.rules.redis_addresses import RedisAddress
from flowforge.rules.redis_copies import RedisManifest
from flowforge.rules.redis_restores import UNFINISHED_KEY, Contents, RedisRestorePlan, RedisTarget
from flowforge.rules.reports import duration
from flowforge.rules.restores import check_plan


@dataclass(frozen=True)
class Restored:
    """What a restore did."""

    server: str
    key_count: int
    """Keys the target took, each checked by it against the checksum it came with."""

    kept_as: str | None
    """Name of the copy of what was there before."""

    seconds: float
    keyspace: dict[int, int]
    """Keys in each database of the target afterwards."""


@contextlib.contextmanager
def opened(
    store: Store, manifest: RedisManifest, parent: Path | None = None
) -> Iterator[tuple[RedisAddress, Contents]]:
    """Load a copy into a server of its own and look at it.

    Raises:
        Refused: This machine has not the room for it.
        Damaged: The copy is not what was written, or no server loads it.
    """
    with scratch.folder(parent) as place:
        if lacking := proving.what_is_lacking(manifest, place):
            raise Refused(
                f"The copy cannot be opened here: {lacking}.",
                hint="Free that much, or run it on a larger machine.",
            )
        announced = proving.fetch(store, manifest, place)
        with contextlib.ExitStack() as stack:
            try:
                highest = max(announced, default=0)
                server = scratch.loaded(place, highest_database=highest)
                address = stack.enter_context(server)
            except scratch.NotLoaded as end:
                raise Damaged(
                    f"No server here loads {manifest.name}: {end.cause}",
                    hint="Install the server's version of Redis and its modules, or choose "
                    "another copy.",
                ) from end
            yield address, contents.look(address, announced)


def plan(
    store: Store, manifest: RedisManifest, copy: Copy, target: RedisAddress
) -> RedisRestorePlan:
    """Look at a copy and at the Redis it would go to; touch neither.

    Raises:
        Refused: The target does not let us in, or the copy cannot be opened here.
        Unavailable: The target or the store does not answer.
        Damaged: The copy is not what was written.
    """
    with opened(store, manifest) as (_, held):
        return _plan(manifest, copy, target, held)


def apply(
    store: Store,
    manifest: RedisManifest,
    copy: Copy,
    target: RedisAddress,
    agreed: str | None,
    *,
    run: RunFacts | None = None,
) -> tuple[RedisRestorePlan, Restored]:
    """Put a copy back as it was planned. What was there is copied first, and that copy is held.

    Args:
        store: Where the copy is, and where the one of the target goes.
        manifest: The copy's manifest.
        copy: Its catalogue entry.
        target: Where it goes.
        agreed: The hash of the plan somebody read.
        run: Who does it.

    Raises:
        Refused: Another plan was agreed to, or something stands in the way; nothing was touched.
        Damaged: The target is half filled; the message says how to go on.
    """
    clock = time.monotonic()
    with opened(store, manifest) as (source, held):
        made = _plan(manifest, copy, target, held)
        with connection.connect(target) as session:
            before = _read_mark(session)
        if before and before["plan"] == agreed:  # a killed restore, to be finished
            kept_as = before["kept_as"]
        else:
            check_plan(made.digest, made.obstacles, agreed)
            kept_as = _keep(store, target, made, run) if made.replaces else None
            reached("redis-kept")
        assert agreed is not None
        with connection.connect(target) as session:
            mark = json.dumps({"plan": agreed, "copy": copy.name, "kept_as": kept_as})
            session.execute_command("SET", UNFINISHED_KEY, mark)
        keys = _fill_whole(source, target, held, agreed, kept_as)
    with connection.connect(target) as session:
        space = connection.keyspace(connection.read_info(session))
    seconds = round(time.monotonic() - clock, 3)
    now = {number: counts.key_count for number, counts in space.items()}
    return made, Restored(target.name, keys, kept_as, seconds, now)


def _plan(
    manifest: RedisManifest, copy: Copy, target: RedisAddress, held: Contents
) -> RedisRestorePlan:
    seen = _look_at(target, held)
    now = datetime.now(UTC)
    loader = programs.version("redis-server")
    ago = duration((now - manifest.snapshot_at).total_seconds())
    return RedisRestorePlan(
        copy_name=manifest.name,
        source_server=manifest.server.name,
        store=copy.store,
        copy_sha256=manifest.data.sha256,
        copy_level=copy.level,
        snapshot_at=manifest.snapshot_at,
        planned_at=now,
        loader_version=loader,
        memory_bytes=manifest.server.used_memory_bytes,
        contents=held,
        target=seen,
        obstacles=redis_restores.find_obstacles(
            seen,
            loader=programs.major_minor(loader),
            target_version=programs.major_minor(seen.version),
            memory_bytes=manifest.server.used_memory_bytes,
            copy_failed=copy.failed,
        ),
        warnings=redis_restores.describe_replay(held, seen, ago),
    )


def _look_at(target: RedisAddress, held: Contents) -> RedisTarget:
    with connection.connect(target) as session:
        info = connection.read_info(session)
        mark = _read_mark(session)
        lacking = []
        for number in held.alive_in:
            with contextlib.suppress(redis.ResponseError):
                session.execute_command("SELECT", number)
                continue
            lacking.append(number)
    limit = int(info.get("maxmemory", 0))
    return RedisTarget(
        server=target.name,
        version=str(info["redis_version"]),
        run_id=str(info["run_id"]),
        is_replica=info["role"] == "slave",
        is_cluster=bool(info.get("cluster_enabled")),
        keyspace=connection.keyspace(info),
        clients=max(0, int(info.get("connected_clients", 1)) - 1),
        free_bytes=limit or None,
        lacking_databases=tuple(lacking),
        unfinished=mark["plan"] if mark else None,
    )


def _read_mark(session: Session) -> dict[str, str | None] | None:
    said = session.execute_command("GET", UNFINISHED_KEY)
    if said is None:
        return None
    mark: dict[str, str | None] = json.loads(said)
    return mark


def _keep(store: Store, target: RedisAddress, made: RedisRestorePlan, run: RunFacts | None) -> str:
    """Copy what is in the target now and hold that copy; its name."""
    kept = copying.take_copy(target, store, run=run)
    back = proving.read_back(store, kept)
    catalogue.add_proof(store, kept, back)
    if back.verdict != "proven":
        raise Damaged(
            f"The copy of what {target.name} holds now is not whole: {back.cause}.",
            hint="Nothing was touched. Look at the store, then apply the plan again.",
        )
    reason = f"what {target.name} held before restore {made.digest}"
    holds.hold(store, target.name, names.WHOLE, kept.name, reason=reason, by="restore")
    return kept.name


def _fill_whole(
    source: RedisAddress, target: RedisAddress, held: Contents, plan_hash: str, kept_as: str | None
) -> int:
    """Empty a target, fill it, and take the mark away; how many keys it took."""
    try:
        _empty(target)
        reached("redis-emptied")
        keys = sum(handing.hand_over(source, target, number) for number in held.alive_in)
        if held.has_functions:
            with connection.connect(source) as session:
                functions = contents.read_functions(session)
            with connection.connect(target) as session:
                session.execute_command("FUNCTION", "RESTORE", functions, "REPLACE")
        reached("redis-filled")
        with connection.connect(target) as session:
            session.execute_command("DEL", UNFINISHED_KEY)
        return keys
    except (Refused, Unavailable) as error:
        before = f", and copy {kept_as} holds what was there before" if kept_as else ""
        raise Damaged(
            f"{target.name} is half filled: {error.message}",
            hint=f"Mend that, then apply plan {plan_hash} again: it begins anew{before}.",
        ) from error


def _empty(target: RedisAddress) -> None:
    """Remove every key but the mark; FLUSHALL is often renamed, and empties more than it should."""
    with connection.connect(target) as session:
        numbers = list(connection.keyspace(connection.read_info(session)))
    for number in numbers:
        with connection.connect(target, database=number) as session:
            for keys in contents.batches(session):
                doomed = [
                    key for key in keys if not (number == 0 and key == UNFINISHED_KEY.encode())
                ]
                if doomed:
                    session.execute_command("UNLINK", *doomed)
