"""Take a stored copy, restore it where it can do no harm, and compare it with its dump.

The newest usable copy is what a real restore would use, so it goes first while it is unproven.
After that chance chooses among the copies of a month, those that need it most being likeliest.
"""

from __future__ import annotations

from datetime import UTC, datetime

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flowforge.rules import backups, drills, proving, reports, standing
from tasks import ledger, postgres, report, storage


@flow(timeout_seconds=12 * 3600)
def restore_drill(
    server: str,
    database: str | None = None,
    copy: str | None = None,
    store: str = "backups",
    proof_policy: proving.ProofPolicy = proving.DRILL_PROOF,
    targets: standing.Targets = standing.STANDARD,
) -> State | backups.Proof:
    """Bring a stored copy back to life on a scratch server and compare it row for row.

    Args:
        server: Name of the registered server the copy was taken from.
        database: Its database; empty means the one the server was registered with.
        copy: Name of a copy, `latest`, or empty for the one that most needs a proof.
        store: Name of the registered store that keeps it.
        proof_policy: How much time the comparison may take, and what the copy is asked.
        targets: What the owner of the data was promised.

    Raises:
        Refused: There is no such copy.
        Damaged: The copy is not what was dumped; it is marked so and no restore will choose it.
    """
    with ledger.recording("restore-drill") as record:
        database = postgres.database_of(server, database)
        record.about(server, database)
        copies = storage.list_copies(server, database, store)
        chosen = (
            storage.choose_copy(copies, copy, server=server, database=database)
            if copy
            else drills.choose_copy(copies, datetime.now(UTC).date())
        )
        manifest = storage.load_manifest(chosen)

        proof = postgres.prove(manifest, store, proof_policy)
        storage.keep_proof(manifest, proof, store)
        ledger.note_drills(storage.keep_drill(chosen, proof))

        copies = storage.list_copies(server, database, store)
        ledger.note_copies(server, database, copies, {chosen.name: [proof]})
        record.done(f"{chosen.name}: {proof.summary()}", copy=chosen, proof=proof)
        report.publish(
            f"drill {server} {database}", reports.drill_report(chosen, proof), record.evidence
        )
        report.publish_protection(targets)
        storage.check_proof(proof)
        return proof
    return Completed(name="Skipped", message=record.evidence)
