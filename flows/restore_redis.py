"""Put a copy of a Redis back: plan it, read what it would do again, agree, and only then do it.

Nothing restores a Redis by itself. What was there before is copied and held first, so a restore is
undone by putting that copy back.
"""

from __future__ import annotations

from typing import Literal

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flowforge.rules import names, redis_reports, redis_restores
from tasks import ledger, redis, report, storage


@flow(timeout_seconds=4 * 3600)
def restore_redis(
    server: str,
    copy: str = "latest",
    action: Literal["plan", "apply"] = "plan",
    plan_hash: str | None = None,
    target_server: str | None = None,
    store: str = "backups",
) -> State | redis_restores.RedisRestorePlan:
    """Put a copy of a Redis into an empty one, or in the place of what a named one holds.

    Args:
        server: Name of the registered Redis the copy was taken from.
        copy: Name of a copy, or `latest` for the newest usable one.
        action: `plan` touches nothing and shows a hash; `apply` does what was planned.
        plan_hash: For `apply` the hash of the plan you read.
        target_server: Registered Redis to put it into; empty means the one it came from.
        store: Name of the registered store that keeps the copy.

    Raises:
        Refused: The plan changed, was not agreed to, or something stands in the way.
        Damaged: The target is half filled; applying the same plan again begins anew.
    """
    with ledger.recording("restore") as record:
        target = target_server or server
        record.about(server, names.WHOLE)
        copies = storage.list_copies(server, names.WHOLE, store)
        chosen = storage.choose_copy(copies, copy, server=server, database=names.WHOLE)
        manifest = redis.load_manifest(chosen)
        if action == "plan":
            plan = redis.plan_restore(chosen, manifest, target)
            record.done(redis_restores.intent(plan), plan=plan, plan_hash=plan.digest)
            text = redis_reports.plan_report(plan)
        else:
            plan, done = redis.apply_restore(chosen, manifest, target, plan_hash)
            evidence = redis_reports.restored_evidence(plan, done.key_count, done.kept_as)
            record.done(evidence, plan=plan, plan_hash=plan.digest, restored=done)
            there = storage.list_copies(target, names.WHOLE, store)
            ledger.note_copies(target, names.WHOLE, there, {})
            text = redis_reports.restored_report(plan, done.key_count, done.kept_as, done.seconds)
        report.publish(f"restore {target}", text, record.evidence)
        return plan
    return Completed(name="Skipped", message=record.evidence)
