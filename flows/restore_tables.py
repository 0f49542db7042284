"""Bring single tables of a copy back, beside the live ones: plan, read the plan, agree, do it.

The tables are loaded into a side database, compared with the copy there, and put into a schema of
their own in the live database. Nothing live is written over; one more run drops the schema again.
"""

from __future__ import annotations

from typing import Literal

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flowforge.errors import Refused
from flowforge.rules import table_reports, table_restores
from tasks import ledger, postgres, report, storage


@flow(timeout_seconds=12 * 3600)
def restore_tables(
    server: str,
    tables: tuple[str, ...] = (),
    database: str | None = None,
    copy: str = "latest",
    action: Literal["plan", "apply", "undo"] = "plan",
    plan_hash: str | None = None,
    store: str = "backups",
) -> State | table_restores.TablePlan:
    """Bring single tables of a copy back into a schema of their own, beside the live ones.

    Args:
        server: Name of the registered server the copy was taken from; the tables go there.
        tables: What is wanted, for example `orders` or `public.orders`.
        database: Its database; empty means the one the server was registered with.
        copy: Name of a copy, or `latest` for the newest usable one.
        action: `plan` touches nothing and shows a hash; `apply` does what was planned; `undo` drops
            the schema again.
        plan_hash: For `apply` the hash of the plan you read; for `undo` the restore's id.
        store: Name of the registered store that keeps the copy.

    Raises:
        Refused: The copy holds no such table, the plan changed, or something stands in the way.
        Damaged: The restored tables are not what was dumped; nothing of them can be seen.
    """
    with ledger.recording("restore-tables") as record:
        database = postgres.database_of(server, database)
        record.about(server, database)
        if action == "undo":
            return _undo(record, server, database, plan_hash)

        copies = storage.list_copies(server, database, store)
        chosen = storage.choose_copy(copies, copy, server=server, database=database)
        manifest = storage.load_manifest(chosen)
        plan = postgres.plan_tables(chosen, manifest, server, database, tables)
        record.done(table_restores.intent(plan), plan=plan, plan_hash=plan.digest)
        subject = f"restore tables {server} {database}"
        if action == "plan":
            report.publish(subject, table_reports.plan_report(plan), record.evidence)
            return plan

        done = postgres.apply_tables(plan, manifest, plan_hash)
        record.done(
            table_restores.evidence(plan, done.tables),
            restore_id=done.restore_id,
            database=done.database,
            schema_name=done.schema,
            tables=done.tables,
        )
        text = table_reports.restored_report(plan, done.tables, seconds=done.seconds)
        report.publish(subject, text, record.evidence)
        return plan
    return Completed(name="Skipped", message=record.evidence)


def _undo(record: ledger.Recorder, server: str, database: str, restore_id: str | None) -> State:
    if not restore_id:
        raise Refused(
            "No restore was named.", hint="Give its id as plan_hash; the restore's report shows it."
        )
    schema = postgres.undo_tables(server, database, restore_id)
    record.done(f"the schema {schema} is gone; no other table was touched", schema_name=schema)
    return Completed(message=record.evidence)
