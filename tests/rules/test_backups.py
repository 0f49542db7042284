from __future__ import annotations

import pickle
from datetime import UTC, datetime, timedelta

import pytest

from flowforge.errors import Busy, Damaged, Refused, Unavailable
from flowforge.rules import backups, comparison, proving, reports
from flowforge.rules.backups import Level, Manifest, Proof, Verdict, catalogue_entry, read_manifest

AT = datetime(2026, 11, 24, 6, 0, tzinfo=UTC)


def table(name: str = "public.t", rows: int = 10, digest: str = "aa") -> backups.TableFacts:
    return backups.TableFacts(name=name, columns="id", rows=rows, raw_bytes=99, digest=digest)


def manifest(**changes: object) -> Manifest:
    facts: dict[str, object] = {
        "name": "backup-20261124-060000",
        "tool_versions": {"pg_dump": "18.6"},
        "run": backups.RunFacts(),
        "server": backups.ServerFacts(
            name="shop", system_identifier="1", version_num=180006, version="18.6", is_replica=False
        ),
        "database": backups.DatabaseFacts(
            name="app", oid=5, encoding="UTF8", collate="C", ctype="C", owner="o", size_bytes=1000
        ),
        "started_at": AT,
        "snapshot_at": AT,
        "finished_at": AT,
        "seconds": 1.5,
        "definitions": {"table public.t": "d1", "view public.v": "d2"},
        "schema_sha256": "s",
        "tables": (table(),),
        "sequences": (backups.SequenceFacts(name="public.s", value=1, is_called=True),),
        "data": backups.StoredObject(key="k", size_bytes=1, raw_bytes=2, sha256="x", trailer="t"),
    }
    return Manifest.model_validate(facts | changes)


def restored(**changes: object) -> comparison.Restored:
    same = manifest()
    facts: dict[str, object] = {
        "major": 18,
        "tables": same.tables,
        "counts": {},
        "sequences": same.sequences,
        "large_objects": same.large_objects,
        "definitions": same.definitions,
        "extensions": {},
    }
    return comparison.Restored.model_validate(facts | changes)


def proof(level: int, verdict: Verdict, hour: int) -> Proof:
    return Proof(
        copy_name="backup-20261124-060000",
        level=Level(level),
        verdict=verdict,
        checked_at=AT + timedelta(hours=hour),
        seconds=1,
    )


def test_a_manifest_reads_back_as_it_was_written() -> None:
    assert read_manifest(manifest().to_json()) == manifest()


@pytest.mark.parametrize("text", [b"", b"{}", b'{"schema": 2}', b"not json"])
def test_what_is_not_our_manifest_is_refused(text: bytes) -> None:
    with pytest.raises(Refused, match="cannot be read"):
        read_manifest(text)


@pytest.mark.parametrize(
    ("proofs", "level", "failed"),
    [
        ([], 0, False),
        ([proof(1, "proven", 1)], 1, False),
        ([proof(1, "proven", 1), proof(3, "proven", 2)], 3, False),
        ([proof(3, "proven", 1), proof(1, "proven", 2)], 3, False),
        ([proof(3, "proven", 1), proof(3, "failed", 2)], 0, True),
        ([proof(3, "failed", 1), proof(1, "proven", 2)], 0, True),
        ([proof(3, "failed", 1), proof(3, "proven", 2)], 3, False),
        ([proof(1, "proven", 1), proof(2, "inconclusive", 2)], 1, False),
        ([proof(1, "proven", 1), proof(4, "failed", 2)], 3, False),
        ([proof(4, "proven", 1), proof(4, "failed", 2)], 3, False),
    ],
)
def test_a_copy_is_worth_what_its_proofs_say(proofs: list[Proof], level: int, failed: bool) -> None:
    entry = catalogue_entry(manifest(), [p.mark for p in proofs], "backups")
    assert (entry.level, entry.failed) == (level, failed)


def test_an_equal_restore_is_proven() -> None:
    found = comparison.compare(manifest(), restored())
    assert comparison.judge(found) == ("proven", None)
    assert (found.tables_digested, found.rows_compared, found.definitions_compared) == (1, 10, 2)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"tables": (table(rows=9),)}, "table public.t: 9 rows instead of 10"),
        ({"tables": (table(digest="bb"),)}, "table public.t: as many rows, other content"),
        ({"tables": ()}, "table public.t: missing from the copy"),
        ({"tables": (), "counts": {"public.t": 9}}, "table public.t: 9 rows instead of 10"),
        ({"sequences": ()}, "sequence public.s: missing from the copy"),
        ({"definitions": {"table public.t": "d1"}}, "view public.v: missing from the copy"),
        (
            {"large_objects": backups.LargeObjectFacts(count=1)},
            "large objects: 1 instead of 0",
        ),
    ],
)
def test_each_difference_is_named(change: dict[str, object], named: str) -> None:
    found = comparison.compare(manifest(), restored(**change))
    assert named in found.differences
    assert comparison.judge(found)[0] == "failed"


def test_counts_alone_prove_nothing() -> None:
    counted = restored(tables=(), counts={"public.t": 10}, large_objects=None, sequences=())
    found = comparison.compare(manifest(), counted)
    assert found.differences == ()
    assert comparison.judge(found)[0] == "inconclusive"


def test_texts_that_depend_on_the_version_are_not_compared_across_versions() -> None:
    other = restored(major=19, definitions={"table public.t": "d1", "view public.v": "other"})
    found = comparison.compare(manifest(), other)
    assert comparison.judge(found) == ("proven", None)
    assert found.definitions_compared == 1
    assert any("PostgreSQL 19" in remark for remark in found.remarks)


def test_a_report_holds_the_answer_first_and_the_next_command() -> None:
    done = Proof(
        copy_name="backup-20261124-060000",
        level=Level.COMPARED,
        verdict="proven",
        checked_at=AT,
        seconds=2,
        tables_total=1,
        tables_digested=1,
        rows_compared=10,
        restore_seconds=1.2,
    )
    text = reports.backup_report(
        manifest(),
        [proof(1, "proven", 0), done],
        [catalogue_entry(manifest(), [done.mark], "backups")],
        [],
        ["a | b"],
        now=AT + timedelta(seconds=90),
    )
    assert text.splitlines()[0] == "# Proven: `app` on `shop`"
    assert "proven L3: 1 tables compared, 10 rows" in text
    assert "writes of the last 1 min 30 s" in text
    assert "flowforge restore plan shop app --copy backup-20261124-060000" in text
    assert r"a \| b" in text


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.34, "0.3 s"), (59.9, "59.9 s"), (61, "1 min 01 s"), (3720, "1 h 02 min")],
)
def test_durations_are_said_as_people_say_them(seconds: float, said: str) -> None:
    assert reports.duration(seconds) == said


@pytest.mark.parametrize("kind", [Unavailable, Refused, Damaged, Busy])
def test_errors_survive_a_journey_between_processes(kind: type[Refused]) -> None:
    error = kind("what", hint="do this", table="t")
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), copy.message, copy.hint, copy.facts) == (
        kind,
        "what",
        "do this",
        {"table": "t"},
    )
    assert "do this" in str(copy)


@pytest.mark.parametrize(
    ("engine", "level", "verdict", "wanted"),
    [
        ("members", 3, "failed", True),
        ("members", 2, "failed", True),
        ("members", 1, "failed", False),  # the store's fault
        ("members", 4, "failed", False),  # the copy is right, the data is not
        ("members", 3, "inconclusive", False),
        ("members", 3, "proven", False),
        ("pg_dump", 3, "failed", False),  # it is the second opinion
    ],
)
def test_only_a_copy_our_engine_may_have_read_wrongly_is_made_once_more(
    engine: str, level: int, verdict: Verdict, wanted: bool
) -> None:
    made = manifest().model_copy(update={"engine": engine})
    assert proving.needs_second_opinion(made, proof(level, verdict, 0)) is wanted
