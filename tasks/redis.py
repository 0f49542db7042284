"""Steps on Redis: copy, prove by loading, plan to put a copy back, do it; Amazon's snapshots."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable

from prefect import get_run_logger, task
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.cache_policies import NO_CACHE

from blocks import RedisServer, lookup
from flowforge.engines.backup.shelf import catalogue, forget
from flowforge.engines.backup.stores.store import open_store
from flowforge.engines.redis import copying, elasticache, proving, restoring
from flowforge.errors import Refused
from flowforge.rules import names, redis_snapshots, retention
from flowforge.rules.backups import Copy, Proof
from flowforge.rules.proving import ProofPolicy
from flowforge.rules.redis_addresses import ElastiCacheAddress, RedisAddress
from flowforge.rules.redis_copies import RedisManifest, read_redis_manifest
from flowforge.rules.redis_restores import RedisRestorePlan
from flowforge.rules.redis_snapshots import Snapshot
from tasks import postgres, retrying, storage

_PROGRESS_EVERY_SECONDS = 2.0


def is_registered(server: str) -> bool:
    """Whether a Redis of that name is saved."""
    return server in lookup.saved_names(RedisServer)


def is_amazons(server: str) -> bool:
    """Whether a registered Redis is looked after by Amazon.

    Raises:
        Refused: None is registered under that name.
    """
    return isinstance(lookup.find_redis(server), ElastiCacheAddress)


@task(
    task_run_name="copy {server} into {store}",
    cache_policy=NO_CACHE,
    retries=retrying.RETRIES,
    retry_delay_seconds=retrying.DELAYS_SECONDS,
    retry_condition_fn=retrying.only_unavailable,
)
def copy_into(server: str, store: str) -> RedisManifest:
    """Stream a snapshot into a store, read to its end on the way."""
    manifest = copying.take_copy(
        _server(server),
        open_store(lookup.find_store(store)),
        run=postgres.run_facts(),
        on_progress=_progress(server),
    )
    get_run_logger().info(
        "stored %s: %s keys, %.1f MB",
        manifest.data.key,
        f"{manifest.rdb.key_count:,}",
        manifest.data.size_bytes / 1e6,
    )
    return manifest


@task(
    task_run_name="read {manifest.name} back from {store}",
    cache_policy=NO_CACHE,
    retries=retrying.RETRIES,
    retry_delay_seconds=retrying.DELAYS_SECONDS,
    retry_condition_fn=retrying.only_unavailable,
)
def read_back(manifest: RedisManifest, store: str) -> Proof:
    """Read every byte of a copy and keep the proof beside it.

    Raises:
        Damaged: The store does not hold what was written.
    """
    kept_in = open_store(lookup.find_store_to_read(store))
    proof = proving.read_back(kept_in, manifest)
    catalogue.add_proof(kept_in, manifest, proof)
    storage.check_proof(proof)
    return proof


@task(task_run_name="load {manifest.name} on a scratch server and compare", cache_policy=NO_CACHE)
def prove(manifest: RedisManifest, store: str, policy: ProofPolicy) -> Proof:
    """Load a copy where it can do no harm, compare it, and keep the proof beside it."""
    kept_in = open_store(lookup.find_store_to_read(store))
    earlier = catalogue.load_proofs(kept_in, manifest.server.name, names.WHOLE, manifest.name)
    proof = proving.prove(kept_in, manifest, earlier=earlier, budget_seconds=policy.budget_seconds)
    catalogue.add_proof(kept_in, manifest, proof)
    log = get_run_logger()
    log.info("%s", proof.summary())
    for remark in (*proof.differences, *proof.remarks):
        log.warning("%s", remark)
    return proof


def prove_within(manifest: RedisManifest, store: str, policy: ProofPolicy) -> Proof | None:
    """Prove a new copy if the policy wants that now, and it is not too large for it."""
    if policy.restore and manifest.server.used_memory_bytes <= policy.largest_bytes:
        return prove(manifest, store, policy)
    return None


@task(task_run_name="forget copies of {server}", cache_policy=NO_CACHE)
def forget_expired(server: str, store: str, policy: retention.Retention) -> forget.Forgotten:
    """Delete the copies the rule lets go, and what killed runs left behind.

    A Redis has no lock of ours. None is needed: what a running copy has sent is younger than the
    day that leftovers are left alone, and its run may not last so long.
    """
    kept_in = open_store(lookup.find_store(store))
    no_lock = contextlib.nullcontext()
    done = forget.forget_under(no_lock, kept_in, server, names.WHOLE, policy)
    log = get_run_logger()
    log.info("forgot %d copies, swept %d leftovers", len(done.gone), len(done.swept.keys))
    for remark in done.remarks:
        log.warning("%s", remark)
    return done


@task(task_run_name="let Amazon take a snapshot of {server}", cache_policy=NO_CACHE)
def take_snapshot(server: str) -> Snapshot:
    """Ask for a snapshot and wait until it is whole."""
    log = get_run_logger()
    return elasticache.take_snapshot(
        _amazons(server), on_look=lambda status: log.info("the snapshot is %s", status)
    )


@task(task_run_name="delete old snapshots of {server}", cache_policy=NO_CACHE)
def forget_snapshots(
    server: str, policy: retention.Retention
) -> tuple[list[Copy], tuple[str, ...]]:
    """Delete the snapshots that may go; those that are left, and the names of the others."""
    address = _amazons(server)
    gone = elasticache.forget_expired(address, elasticache.list_snapshots(address), policy)
    left = [found for found in elasticache.list_snapshots(address) if found.name not in gone]
    return redis_snapshots.snapshot_entries(server, left), gone


@task(task_run_name="read the manifest of {copy.name}", cache_policy=NO_CACHE)
def load_manifest(copy: Copy) -> RedisManifest:
    """Everything known of a copy."""
    kept_in = open_store(lookup.find_store(copy.store))
    return read_redis_manifest(catalogue.read_text(kept_in, copy.server, names.WHOLE, copy.name))


@task(
    task_run_name="plan to put {copy.name} into {target}",
    cache_policy=NO_CACHE,
    retries=retrying.RETRIES,
    retry_delay_seconds=retrying.DELAYS_SECONDS,
    retry_condition_fn=retrying.only_unavailable,
)
def plan_restore(copy: Copy, manifest: RedisManifest, target: str) -> RedisRestorePlan:
    """Look at a copy and at the Redis it would go to; touch neither."""
    kept_in = open_store(lookup.find_store_to_read(copy.store))
    return restoring.plan(kept_in, manifest, copy, _server(target))


@task(task_run_name="put {copy.name} into {target}", cache_policy=NO_CACHE)
def apply_restore(
    copy: Copy, manifest: RedisManifest, target: str, agreed: str | None
) -> tuple[RedisRestorePlan, restoring.Restored]:
    """Fill a Redis from a copy, as somebody agreed to."""
    kept_in = open_store(lookup.find_store_to_read(copy.store))
    run = postgres.run_facts()
    plan, done = restoring.apply(kept_in, manifest, copy, _server(target), agreed, run=run)
    get_run_logger().info("%s took %s keys; kept before: %s", target, done.key_count, done.kept_as)
    return plan, done


def _server(name: str) -> RedisAddress:
    address = lookup.find_redis(name)
    if isinstance(address, ElastiCacheAddress):
        raise Refused(
            f"{name} is registered as a replication group, which cannot be entered.",
            hint="Register its endpoint under another name: `flowforge redis add NAME` with "
            "rediss://HOST:PORT.",
        )
    return address


def _amazons(name: str) -> ElastiCacheAddress:
    address = lookup.find_redis(name)
    assert isinstance(address, ElastiCacheAddress)
    return address


def _progress(server: str) -> Callable[[int, int], None]:
    """A progress bar in the UI, for copies long enough to need one."""
    shown: list[object] = []
    due = [time.monotonic() + _PROGRESS_EVERY_SECONDS]

    def tell(seen: int, expected: int) -> None:
        if time.monotonic() < due[0]:
            return
        due[0] = time.monotonic() + _PROGRESS_EVERY_SECONDS
        percent = min(99.0, 100 * seen / max(1, expected))
        said = f"{server}: {seen / 1e6:,.0f} MB (estimated from the memory its data takes)"
        if shown:
            update_progress_artifact(shown[0], percent, description=said)  # type: ignore[arg-type]
        else:
            shown.append(create_progress_artifact(percent, description=said))

    return tell
