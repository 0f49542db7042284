"""Restore a copy: plan it, read the plan, agree to it by its hash, and only then do it.

The copy is loaded into a side database and compared there; it takes the live one's name in a single
transaction; the one that was live is kept, and one more run of this flow puts it back.
"""

from __future__ import annotations

from typing import Literal

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flowforge.errors import Refused
from flowforge.rules import reports, restores
from flowforge.rules.masks import Mask
from tasks import approval, ledger, postgres, report, storage


@flow(timeout_seconds=12 * 3600)
def restore_postgres(
    server: str,
    database: str | None = None,
    copy: str = "latest",
    action: Literal["plan", "apply", "undo", "drop-kept"] = "plan",
    plan_hash: str | None = None,
    target_server: str | None = None,
    target_database: str | None = None,
    store: str = "backups",
    masks: tuple[Mask, ...] = (),
    ask_before_swap: bool = False,
) -> State | restores.RestorePlan:
    """Restore a copy of a database, beside the live one or in its place.

    Args:
        server: Name of the registered server the copy was taken from.
        database: Its database; empty means the one the server was registered with.
        copy: Name of a copy, or `latest` for the newest usable one.
        action: `plan` touches nothing and shows a hash; `apply` does what was planned; `undo` puts
            back what was live before; `drop-kept` drops what restores kept over seven days.
        plan_hash: For `apply` the hash of the plan you read; for `undo` the restore's id.
        target_server: Registered server to restore to; empty means the one it came from.
        target_database: Name it shall have there; empty means its own. The live one is replaced.
        store: Name of the registered store that keeps the copy.
        masks: Columns that shall hold something else before anybody sees the restored database.
        ask_before_swap: Whether a person must agree before a live database is replaced.

    Raises:
        Refused: The plan changed, was not agreed to, or something stands in the way.
        Damaged: The restored copy is not what was dumped; the live database was not touched.
    """
    with ledger.recording("restore") as record:
        database = postgres.database_of(server, database)
        to_server = target_server or server
        to_database = postgres.database_of(to_server, target_database or database)
        subject = f"restore {to_server} {to_database}"
        record.about(to_server, to_database)
        if action in ("undo", "drop-kept"):
            return _take_back(record, to_server, to_database, plan_hash, action)

        copies = storage.list_copies(server, database, store)
        chosen = storage.choose_copy(copies, copy, server=server, database=database)
        manifest = storage.load_manifest(chosen)
        estimate = storage.estimate_seconds(chosen)
        plan = postgres.plan_restore(chosen, manifest, to_server, to_database, estimate, masks)
        record.done(restores.intent(plan), plan=plan, plan_hash=plan.digest)
        if action == "plan":
            report.publish(subject, reports.plan_report(plan), record.evidence)
            return plan

        if ask_before_swap and plan.kept_as:
            plan_hash = _ask(record, plan)
        done = postgres.apply_restore(plan, manifest, plan_hash)
        evidence = restores.evidence(plan, done.compared, done.kept_as)
        record.done(evidence, **postgres.facts_of(done))
        text = reports.restored_report(plan, done.compared, done.masked, seconds=done.seconds)
        report.publish(subject, text, record.evidence)
        return plan
    return Completed(name="Skipped", message=record.evidence)


def _ask(record: ledger.Recorder, plan: restores.RestorePlan) -> str:
    agreed = approval.ask(reports.plan_report(plan), plan.digest, key="replace-live")
    record.done(f"{agreed.approver} agreed to {agreed.plan_hash}", agreed=agreed)
    return agreed.plan_hash


def _take_back(
    record: ledger.Recorder, server: str, database: str, restore_id: str | None, action: str
) -> State:
    if action == "drop-kept":
        return _drop_kept(record, server)
    if not restore_id:
        raise Refused(
            "No restore was named.", hint="Give its id as plan_hash; the restore's report shows it."
        )
    undone = postgres.undo_restore(server, database, restore_id)
    record.done(
        f"{database} is again what it was before; the restored one is {undone.kept_as}",
        **postgres.facts_of(undone),
    )
    return Completed(message=record.evidence)


def _drop_kept(record: ledger.Recorder, server: str) -> State:
    dropped = postgres.drop_kept(server)
    names = ", ".join(one.name for one in dropped) or "none is old enough"
    record.done(f"dropped what restores had kept on {server}: {names}", dropped=dropped)
    return Completed(message=record.evidence)
