from __future__ import annotations

from datetime import timedelta

import pytest
import sqlalchemy as sa

from flowforge.ledger import protection, queries
from flowforge.rules.alerts import Alert, BackupRuns
from flowforge.rules.backups import Copy, Level
from flowforge.rules.drills import Drill, drill_of
from tests.ledger.test_queries import NOON, a_copy, a_proof, an_operation


def record(engine: sa.Engine, *copies: Copy) -> None:
    for copy in copies:
        queries.record_copy(engine, copy)


def a_drill(days_ago: int, database: str = "shop") -> Drill:
    copy = a_copy(database=database)
    proof = a_proof(copy, checked_at=NOON - timedelta(days=days_ago), restore_seconds=5.0)
    return drill_of(copy, proof)


def an_alert(about: str = "backup-20260301-120000") -> Alert:
    return Alert(
        event="flowforge.backup.stale",
        server="shop",
        database="shop",
        about=about,
        facts={},
        hint="Look.",
    )


def test_the_newest_copy_of_a_database_is_one_that_did_not_fail(engine: sa.Engine) -> None:
    record(engine, a_copy(6), a_copy(0, failed=True), a_copy(1, database="crm", failed=True))
    known = protection.read_known(engine)
    assert [(c.database, c.name) for c in known.newest] == [
        ("crm", a_copy(1).name),
        ("shop", a_copy(6).name),
    ]


def test_each_store_is_known_by_its_newest_copy_that_was_read_back(engine: sa.Engine) -> None:
    record(
        engine,
        a_copy(0, level=Level.STORED),
        a_copy(6, level=Level.READ_BACK),
        a_copy(12),
        a_copy(18, store="vault"),
        a_copy(3, store="vault", failed=True, level=Level.STORED),
    )
    known = protection.read_known(engine)
    assert [(c.store, c.name) for c in known.usable] == [
        ("backups", a_copy(6).name),
        ("vault", a_copy(18).name),
    ]
    assert known.counts == {("backups", "shop", "shop"): 3, ("vault", "shop", "shop"): 2}
    assert [c.name for c in known.oldest] == [a_copy(18).name]


def test_the_copy_proven_last_is_known_and_one_that_fell(engine: sa.Engine) -> None:
    record(
        engine,
        a_copy(0, level=Level.READ_BACK, fall="rows fell"),
        a_copy(6, proven_at=NOON - timedelta(days=3)),
        a_copy(12, proven_at=NOON - timedelta(days=1)),
    )
    known = protection.read_known(engine)
    assert [c.name for c in known.proven] == [a_copy(12).name]
    assert [c.fall for c in known.fallen] == ["rows fell"]


def test_the_last_twelve_drills_of_each_database_are_known_oldest_first(engine: sa.Engine) -> None:
    drills = [a_drill(days) for days in range(20)] + [a_drill(99, "crm")]
    for _ in range(2):
        protection.record_drills(engine, drills)
    known = protection.read_known(engine).drills
    assert [d for d in known if d.database == "crm"] == [a_drill(99, "crm")]
    shop = [d for d in known if d.database == "shop"]
    assert shop == [a_drill(days) for days in range(11, -1, -1)]


def test_the_last_proof_of_each_database_that_compared_a_copy_is_known_by_what_it_measured(
    engine: sa.Engine,
) -> None:
    older, newer = a_copy(12), a_copy(6, raw_bytes=77)
    record(engine, older, newer, a_copy(1, database="crm"))
    facts = {"restore_seconds": 4.0, "phase_seconds": {"load": 4.0, "compare": 1.5}}
    for copy, proof in (
        (newer, a_proof(newer, 1, **facts)),
        (older, a_proof(older, 2, restore_seconds=99.0)),
        (newer, a_proof(newer, 3, verdict="failed")),
        (newer, a_proof(newer, 4, level=Level.READ_BACK)),
    ):
        queries.record_proof(engine, copy.server, copy.database, copy.store, proof)
    (known,) = protection.read_known(engine).measured
    assert (known.copy_name, known.raw_bytes, known.seconds) == (newer.name, 77, 5.5)


def test_skipped_runs_are_counted_in_all_and_in_a_row(engine: sa.Engine) -> None:
    outcomes = ["skipped", "done", "skipped", "skipped"]
    for minute, outcome in enumerate(outcomes):
        facts = {"orphans": 2, "odd": "\0"} if outcome == "done" else {}
        update = {"outcome": outcome, "facts": facts, "server": "shop", "database": "shop"}
        run = an_operation(f"run-{minute}", minute).model_copy(update=update)
        queries.record_operation(engine, run)
    queries.record_operation(engine, an_operation("of no database", 9))
    assert protection.read_known(engine).runs == (
        BackupRuns(
            server="shop",
            database="shop",
            skipped_total=3,
            skipped_in_a_row=2,
            skipped_since="run-2",
            orphans=2,
        ),
    )


def test_people_are_told_once_of_a_thing_and_again_only_when_telling_failed(
    engine: sa.Engine,
) -> None:
    told: list[str] = []

    def fail() -> None:
        raise OSError("the messenger is away")

    with pytest.raises(OSError, match="messenger"):
        protection.tell_once(engine, an_alert(), fail)
    assert protection.tell_once(engine, an_alert(), lambda: told.append("told"))
    assert not protection.tell_once(engine, an_alert(), lambda: told.append("again"))
    assert protection.tell_once(engine, an_alert("older"), lambda: told.append("older copy"))
    other = an_alert().model_copy(update={"event": "flowforge.backup.unverified"})
    assert protection.tell_once(engine, other, lambda: told.append("other event"))
    assert told == ["told", "older copy", "other event"]
