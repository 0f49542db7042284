"""Copy a Redis, prove the copy, then forget copies no longer wanted.

The order is that of every backup: copy, read back, load elsewhere, compare, and only then delete.
A replication group of ElastiCache is copied by Amazon, which is all that can be said of it.
"""

from __future__ import annotations

from datetime import UTC, datetime

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flowforge.rules import backups, names, proving, redis_reports, retention, standing
from tasks import ledger, redis, report, storage


@flow(timeout_seconds=4 * 3600)
def backup_redis(
    server: str = "cache",
    store: str = "backups",
    only_if_registered: bool = False,
    retention_policy: retention.Retention = retention.STANDARD,
    proof_policy: proving.ProofPolicy = proving.STANDARD_PROOF,
    targets: standing.Targets = standing.STANDARD,
) -> State | backups.Copy:
    """Copy all databases of a Redis and prove the copy by loading it.

    Args:
        server: Name of a registered Redis (`flowforge redis list`).
        store: Name of the registered store that keeps the copy.
        only_if_registered: End as skipped where no such Redis is registered, as a schedule does
            that runs everywhere. Otherwise that is refused.
        retention_policy: How long copies are kept.
        proof_policy: How far the copy is proven before this run says it is done.
        targets: What the owner of the data was promised.

    Raises:
        Refused: It does not let us in, or the store is full; nothing was touched.
        Unavailable: The server or the store did not answer; nothing was kept of this try.
        Damaged: What came is not whole, or the copy is not what came; nothing was deleted.
    """
    with ledger.recording("backup") as record:
        if only_if_registered and not redis.is_registered(server):
            return _skip(record, server)
        record.about(server, names.WHOLE)
        if redis.is_amazons(server):
            return _let_amazon_copy(record, server, retention_policy)

        # Make the copy and prove it: what the store holds, then what a server makes of it.
        manifest = redis.copy_into(server, store)
        proofs = [redis.read_back(manifest, store)]
        if proof := redis.prove_within(manifest, store, proof_policy):
            proofs.append(proof)
            storage.check_proof(proof)

        # Only a proven copy may push out older ones.
        done = redis.forget_expired(server, store, retention_policy)

        # Tell people.
        copies = storage.list_copies(server, names.WHOLE, store)
        copy = storage.choose_copy(copies, manifest.name, server=server, database=names.WHOLE)
        ledger.note_copies(server, names.WHOLE, copies, {copy.name: proofs})
        evidence = redis_reports.evidence(manifest, proofs[-1])
        left, now = done.swept.orphans, datetime.now(UTC)
        record.done(evidence, copy=copy, proof=proofs[-1], forgotten=done.gone, orphans=left)
        text = redis_reports.backup_report(
            manifest, proofs, copies, done.gone, done.remarks, now=now
        )
        report.publish(f"backup {server}", text, record.evidence)
        report.publish_protection(targets)
        return copy
    return Completed(name="Skipped", message=record.evidence)


def _skip(record: ledger.Recorder, server: str) -> State:
    # Not said to be about anything: nobody is to be told of a Redis that does not exist.
    how = f"`flowforge redis add {server}` has it copied"
    record.skipped(f"no Redis is registered as {server}: {how}")
    return Completed(name="Skipped", message=record.evidence)


def _let_amazon_copy(record: ledger.Recorder, server: str, policy: retention.Retention) -> State:
    snapshot = redis.take_snapshot(server)
    kept, gone = redis.forget_snapshots(server, policy)
    ledger.note_copies(server, names.WHOLE, kept, {})
    record.done(redis_reports.snapshot_evidence(snapshot), snapshot=snapshot, forgotten=gone)
    text = redis_reports.snapshot_report(server, snapshot, len(kept), gone)
    report.publish(f"backup {server}", text, record.evidence)
    return Completed(message=record.evidence)
