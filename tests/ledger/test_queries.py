from __future__ import annotations

from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from flowforge.ledger import queries
from flowforge.rules.backups import Copy, Level, Operation, Proof

NOON = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
ODD_NAME = 'o\'dd "näme"\n$(id)'


def a_copy(hours_ago: int = 0, **changes: object) -> Copy:
    at = NOON - timedelta(hours=hours_ago)
    copy = Copy(
        server="shop",
        database="shop",
        name=f"backup-{at:%Y%m%d-%H%M%S}",
        store="backups",
        snapshot_at=at,
        finished_at=at + timedelta(seconds=3),
        size_bytes=3 << 33,
        raw_bytes=1,
        tables=14,
        rows=84_210,
        system_identifier="7300000000000000000",
        level=Level.COMPARED,
        proven_at=at,
        warnings=("one", "two \0"),
    )
    return copy.model_copy(update=changes)


def a_proof(copy: Copy, minutes: int = 1, **changes: object) -> Proof:
    proof = Proof(
        copy_name=copy.name,
        level=Level.COMPARED,
        verdict="proven",
        checked_at=copy.finished_at + timedelta(minutes=minutes),
        seconds=1.5,
        tables_total=14,
        differences=("none \0 really",),
    )
    return proof.model_copy(update=changes)


def an_operation(run: str, minutes: int = 0, operation: str = "backup") -> Operation:
    return Operation(
        operation=operation,
        flow_run_id=run,
        flow_run_name="brave-otter",
        outcome="done",
        evidence="proven L3",
        seconds=6.1,
        finished_at=NOON + timedelta(minutes=minutes),
        facts={"copy": a_copy().model_dump(mode="json"), "forgotten": []},
    )


def test_what_was_recorded_is_read_back_equal(engine: sa.Engine) -> None:
    copy = a_copy(server="a-b", database=ODD_NAME)
    proof = a_proof(copy)
    queries.record_copy(engine, copy)
    queries.record_proof(engine, "a-b", ODD_NAME, "backups", proof)
    queries.record_operation(engine, an_operation("run-1"))
    assert queries.list_copies(engine, "a-b", ODD_NAME) == [copy]
    assert queries.list_proofs(engine, "a-b", ODD_NAME, copy.name) == [proof]
    assert queries.read_operation(engine, "run-1") == an_operation("run-1")
    assert queries.read_operation(engine, "run-2") is None


def test_recording_twice_is_one_row_with_the_newest_facts(engine: sa.Engine) -> None:
    copy = a_copy(level=Level.READ_BACK, proven_at=None)
    queries.record_copy(engine, copy)
    queries.record_copy(engine, a_copy())
    for _ in range(2):
        queries.record_proof(engine, "shop", "shop", "backups", a_proof(copy))
        queries.record_operation(engine, an_operation("run-1"))
    assert queries.list_copies(engine) == [a_copy()]
    assert len(queries.list_proofs(engine, "shop", "shop", copy.name)) == 1
    assert len(queries.list_operations(engine)) == 1


def test_lists_are_newest_first_and_filtered(engine: sa.Engine) -> None:
    old, new, other = a_copy(6), a_copy(), a_copy(3, database="crm")
    for copy in (old, new, other):
        queries.record_copy(engine, copy)
    assert queries.list_copies(engine) == [new, other, old]
    assert queries.list_copies(engine, "shop", "shop") == [new, old]
    assert queries.list_copies(engine, "nobody") == []
    for minute, kind in enumerate(("backup", "restore-drill", "backup")):
        queries.record_operation(engine, an_operation(f"run-{minute}", minute, kind))
    assert [o.flow_run_id for o in queries.list_operations(engine, "backup")] == ["run-2", "run-0"]
    assert [o.flow_run_id for o in queries.list_operations(engine, limit=1)] == ["run-2"]


def test_forgetting_a_copy_takes_its_proofs_along_and_may_be_repeated(engine: sa.Engine) -> None:
    copy, elsewhere = a_copy(), a_copy(store="vault")
    for each in (copy, elsewhere):
        queries.record_copy(engine, each)
        queries.record_proof(engine, "shop", "shop", each.store, a_proof(copy))
    for _ in range(2):
        queries.forget_copy(engine, "shop", "shop", copy.name, "backups")
    assert queries.list_copies(engine) == [elsewhere]
    assert len(queries.list_proofs(engine, "shop", "shop", copy.name)) == 1


def test_a_rebuilt_catalogue_equals_the_store_and_leaves_other_stores_alone(
    engine: sa.Engine,
) -> None:
    gone, elsewhere = a_copy(9), a_copy(9, store="vault")
    queries.record_copy(engine, gone)
    queries.record_copy(engine, elsewhere)
    found = [a_copy(seconds) for seconds in range(1200)]
    proofs = [("shop", "shop", a_proof(copy)) for copy in found if copy != gone]
    queries.replace_catalogue(engine, "backups", found, proofs)
    assert [c for c in queries.list_copies(engine) if c.store == "backups"] == found
    assert [c for c in queries.list_copies(engine) if c.store == "vault"] == [elsewhere]
    assert queries.list_proofs(engine, "shop", "shop", gone.name) == []
    queries.replace_catalogue(engine, "backups", [], [])
    assert queries.list_copies(engine) == [elsewhere]
