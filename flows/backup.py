"""Back up a PostgreSQL database, prove the copy, then forget copies no longer wanted.

A copy that was never restored is a hope, so the order is fixed: dump, read back, restore, compare,
and only then delete. Whatever stops this flow, every copy that was good before is still there.
"""

from __future__ import annotations

from datetime import UTC, datetime

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flowforge.rules import backups, proving, reports, retention, standing
from tasks import ledger, postgres, report, storage


@flow(timeout_seconds=4 * 3600)
def backup_postgres(
    server: str,
    database: str | None = None,
    store: str = "backups",
    also_in: tuple[str, ...] = (),
    renamed_from: str | None = None,
    retention_policy: retention.Retention = retention.STANDARD,
    proof_policy: proving.ProofPolicy = proving.STANDARD_PROOF,
    targets: standing.Targets = standing.STANDARD,
) -> State | backups.Copy:
    """Back up one database and prove the copy row for row.

    Args:
        server: Name of a registered PostgreSQL server (`flowforge database list`).
        database: Database on that server; empty means the one it was registered with.
        store: Name of the registered store that keeps the copy.
        also_in: Further stores that get every proven copy; one that is away catches up later.
        renamed_from: The database's name before, when it was renamed: its copies go on under the
            new one only when somebody says so.
        retention_policy: How long copies are kept.
        proof_policy: How far the copy is proven before this run says it is done.
        targets: What the owner of the data was promised.

    Raises:
        Refused: Something could not be read or written whole; nothing was touched.
        Unavailable: The server or the store did not answer; nothing was kept of this try.
        Damaged: The copy is not what was dumped; it is marked so, and nothing was deleted.
    """
    with ledger.recording("backup") as record:
        database = postgres.database_of(server, database)
        record.about(server, database)
        storage.check_name(server, database, store, renamed_from)

        # Make the copy. It exists once its manifest does.
        manifest, proofs = _make_proven(server, database, store, proof_policy)
        storage.check_proof(proofs[-1])

        # Bring it elsewhere, too; only a proven copy may push out older ones.
        caught = [storage.catch_up(server, database, store, s, retention_policy) for s in also_in]
        done = storage.forget_expired(server, database, store, retention_policy)

        # Tell people.
        copies = storage.list_copies(server, database, store)
        copy = storage.choose_copy(copies, manifest.name, server=server, database=database)
        ledger.note_copies(server, database, copies, {copy.name: proofs})
        remarks = [*done.remarks, *storage.note_second_stores(server, database, caught)]
        evidence = reports.backup_evidence(manifest, proofs[-1])
        left = done.swept.orphans
        record.done(evidence, copy=copy, proof=proofs[-1], forgotten=done.gone, orphans=left)
        text = reports.backup_report(
            manifest, proofs, copies, done.gone, remarks, now=datetime.now(UTC)
        )
        report.publish(f"backup {server} {database}", text, record.evidence)
        report.publish_protection(targets)
        return copy
    return Completed(name="Skipped", message=record.evidence)


def _make_proven(
    server: str, database: str, store: str, policy: proving.ProofPolicy
) -> tuple[backups.Manifest, list[backups.Proof]]:
    """Make a copy and examine it: what the store holds, then what it becomes when restored.

    A copy that several sessions read and that then differs from the database is made once more
    by `pg_dump`, the reference: so one fault of ours never leaves a database without a copy.
    """
    manifest = postgres.dump_into(server, database, store)
    proofs = _examine(manifest, store, policy)
    if proving.needs_second_opinion(manifest, proofs[-1]):
        manifest = postgres.dump_into(server, database, store, "pg_dump")
        proofs = _examine(manifest, store, policy)
    return manifest, proofs


def _examine(
    manifest: backups.Manifest, store: str, policy: proving.ProofPolicy
) -> list[backups.Proof]:
    proofs = [storage.read_back(manifest, store)]
    if proof := postgres.prove_within(manifest, store, policy):
        storage.keep_proof(manifest, proof, store)
        proofs.append(proof)
    return proofs
