"""Steps on PostgreSQL: dump, prove by restoring, plan a restore, apply it, undo it."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from datetime import UTC, datetime

from prefect import get_run_logger, runtime, task
from prefect.cache_policies import NO_CACHE

from blocks import lookup
from flowforge.engines.backup.dumping import dump
from flowforge.engines.backup.proving import proof
from flowforge.engines.backup.restoring import keeping, restore, tables
from flowforge.engines.backup.stores.store import open_store
from flowforge.rules import kept, names
from flowforge.rules.backups import Copy, Manifest, Proof, RunFacts
from flowforge.rules.kept import KeptDatabase
from flowforge.rules.masks import Mask
from flowforge.rules.proving import ProofPolicy
from flowforge.rules.restores import RestorePlan
from flowforge.rules.table_restores import TablePlan
from tasks import progress, retrying


def database_of(server: str, database: str | None) -> str:
    """The database meant when none is named is the one the server was registered with.

    Raises:
        Refused: No such server is registered, or the database cannot be called that.
    """
    return names.check_database_name(database or lookup.find_server(server).database)


@task(
    task_run_name="dump {server}/{database} into {store}",
    cache_policy=NO_CACHE,
    retries=retrying.RETRIES,
    retry_delay_seconds=retrying.DELAYS_SECONDS,
    retry_condition_fn=retrying.only_unavailable,
)
def dump_into(server: str, database: str, store: str, engine: dump.Engine = "members") -> Manifest:
    """Stream a dump into a store and learn its facts from the same bytes."""
    address = lookup.find_server(server)
    kept_in = open_store(lookup.find_store(store))
    manifest = dump.take_copy(
        address,
        database,
        kept_in,
        run=run_facts(),
        engine=engine,
        on_progress=progress.CopyBar(database).tell,
    )
    get_run_logger().info(
        "stored %s: %d tables, %s rows, %.1f MB",
        manifest.data.key,
        len(manifest.tables),
        f"{manifest.rows:,}",
        manifest.data.size_bytes / 1e6,
    )
    return manifest


@task(
    task_run_name="restore {manifest.name} on a scratch server and compare", cache_policy=NO_CACHE
)
def prove(manifest: Manifest, store: str, policy: ProofPolicy, *, own: bool = False) -> Proof:
    """Restore a copy where it can do no harm and compare it with the facts of its dump.

    Args:
        manifest: The copy.
        store: Where it is.
        policy: How far it is proven.
        own: Whether this run took the copy itself, so that it needs no key to open it.
    """
    kept_in = open_store(lookup.find_store(store) if own else lookup.find_store_to_read(store))
    proven = proof.prove_by_restoring(kept_in, manifest, policy=policy)
    log = get_run_logger()
    log.info("%s", proven.summary())
    for answer in proven.answers:
        log.info("%s", answer.line())
    for remark in (*proven.differences, *proven.remarks):
        log.warning("%s", remark)
    return proven


def prove_within(manifest: Manifest, store: str, policy: ProofPolicy) -> Proof | None:
    """Prove a new copy if the policy wants that now; a database too large is left to the drill."""
    if policy.restore and manifest.database.size_bytes <= policy.largest_bytes:
        return prove(manifest, store, policy, own=True)
    return None


@task(
    task_run_name="plan to restore {copy.name} to {server}/{database}",
    cache_policy=NO_CACHE,
    retries=retrying.RETRIES,
    retry_delay_seconds=retrying.DELAYS_SECONDS,
    retry_condition_fn=retrying.only_unavailable,
)
def plan_restore(
    copy: Copy,
    manifest: Manifest,
    server: str,
    database: str,
    estimated_seconds: float | None,
    masks: Sequence[Mask] = (),
) -> RestorePlan:
    """Look at the copy and at the place it would go to; touch neither."""
    address = lookup.find_server(server)
    kept_in = open_store(lookup.find_store_to_read(copy.store))
    return restore.plan(
        kept_in,
        manifest,
        copy,
        address,
        database,
        masks=masks,
        estimated_seconds=estimated_seconds,
    )


@task(
    task_run_name="restore {plan.copy_name} to {plan.target.database}",
    cache_policy=NO_CACHE,
    retries=retrying.RETRIES,
    retry_delay_seconds=retrying.DELAYS_SECONDS,
    retry_condition_fn=retrying.only_unavailable,
)
def apply_restore(plan: RestorePlan, manifest: Manifest, agreed: str | None) -> restore.Restoration:
    """Load the copy aside, compare it, and let it take the live database's place."""
    address = lookup.find_server(plan.target.server)
    kept_in = open_store(lookup.find_store_to_read(plan.store))
    bar = progress.LoadBar(plan.copy_name)
    done = restore.apply(kept_in, manifest, address, plan, agreed, on_progress=bar.tell)
    get_run_logger().info("%s is restored; kept from before: %s", done.database, done.kept_as)
    return done


@task(task_run_name="undo restore {restore_id}", cache_policy=NO_CACHE)
def undo_restore(server: str, database: str, restore_id: str) -> restore.Restoration:
    """Put the database back that was live before a restore."""
    return restore.undo(lookup.find_server(server), database, restore_id)


@task(task_run_name="drop what restores kept on {server}", cache_policy=NO_CACHE)
def drop_kept(server: str) -> tuple[KeptDatabase, ...]:
    """Drop the databases that restores set aside and that nobody went back to in seven days."""
    address = lookup.find_server(server)
    old = [one for one in keeping.list_kept(address) if kept.is_droppable(one, datetime.now(UTC))]
    return keeping.drop_kept(address, [(one.name, one.oid) for one in old])


@task(
    task_run_name="plan to bring tables of {copy.name} back to {server}/{database}",
    cache_policy=NO_CACHE,
    retries=retrying.RETRIES,
    retry_delay_seconds=retrying.DELAYS_SECONDS,
    retry_condition_fn=retrying.only_unavailable,
)
def plan_tables(
    copy: Copy, manifest: Manifest, server: str, database: str, wanted: Sequence[str]
) -> TablePlan:
    """Look at the copy and at the database its tables would go into; touch neither."""
    kept_in = open_store(lookup.find_store_to_read(copy.store))
    return tables.plan(kept_in, manifest, copy, lookup.find_server(server), database, wanted)


@task(
    task_run_name="bring tables of {plan.copy_name} back to {plan.target.database}",
    cache_policy=NO_CACHE,
    retries=retrying.RETRIES,
    retry_delay_seconds=retrying.DELAYS_SECONDS,
    retry_condition_fn=retrying.only_unavailable,
)
def apply_tables(
    plan: TablePlan, manifest: Manifest, agreed: str | None
) -> tables.TableRestoration:
    """Load the tables aside, compare them, and put them into a schema of their own."""
    address = lookup.find_server(plan.target.server)
    kept_in = open_store(lookup.find_store_to_read(plan.store))
    bar = progress.LoadBar(plan.copy_name)
    return tables.apply(kept_in, manifest, address, plan, agreed, on_progress=bar.tell)


@task(task_run_name="undo the restore of tables {restore_id}", cache_policy=NO_CACHE)
def undo_tables(server: str, database: str, restore_id: str) -> str:
    """Drop the schema a restore of tables made, and return its name."""
    return tables.undo(lookup.find_server(server), database, restore_id)


def facts_of(done: restore.Restoration) -> dict[str, object]:
    """What the ledger keeps of a restore."""
    return {
        "restore_id": done.restore_id,
        "database": done.database,
        "kept_as": done.kept_as,
        "compared": done.compared,
        "masked": done.masked,
    }


def run_facts() -> RunFacts:
    """Which run this is, and where it runs."""
    run = runtime.flow_run
    return RunFacts(
        flow_run_id=run.id,
        flow_run_name=run.name,
        deployment=runtime.deployment.name,
        host=socket.gethostname(),
        flowforge=dump.flowforge_version(),
    )
