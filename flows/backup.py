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
    retention_policy: retention.Retention = retention.STANDARD,
    proof_policy: proving.ProofPolicy = proving.STANDARD_PROOF,
    targets: standing.Targets = standing.STANDARD,
) -> State | backups.Copy:
    """Back up one database and prove the copy row for row.

    Args:
        server: Name of a registered PostgreSQL server (`flowforge database list`).
        database: Database on that server; empty means the one it was registered with.
        store: Name of the registered store that keeps the copy.
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

        # Make the copy. It exists once its manifest does.
        manifest = postgres.dump_into(server, database, store)

        # Prove it: first what the store holds, then what it becomes when restored.
        read_back = storage.read_back(manifest, store)
        proof = postgres.prove_within(manifest, store, proof_policy)
        if proof:
            storage.keep_proof(manifest, proof, store)
            storage.check_proof(proof)

        # Only a proven copy may push out older ones.
        done = storage.forget_expired(server, database, store, retention_policy)

        # Tell people.
        copies = storage.list_copies(server, database, store)
        copy = storage.choose_copy(copies, manifest.name, server=server, database=database)
        proofs = [made for made in (read_back, proof) if made]
        ledger.note_copies(server, database, copies, {copy.name: proofs})
        evidence = reports.backup_evidence(manifest, proofs[-1])
        left = done.swept.orphans
        record.done(evidence, copy=copy, proof=proofs[-1], forgotten=done.gone, orphans=left)
        text = reports.backup_report(
            manifest, read_back, proof, copies, done.gone, done.remarks, now=datetime.now(UTC)
        )
        report.publish(f"backup {server} {database}", text, record.evidence)
        report.publish_protection(targets)
        return copy
    return Completed(name="Skipped", message=record.evidence)
