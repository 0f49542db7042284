from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from flowforge.errors import Refused
from flowforge.rules import kept, restores
from flowforge.rules.backups import Level
from flowforge.rules.kept import KeptDatabase
from flowforge.rules.masks import Mask
from flowforge.rules.restores import RestorePlan, TargetFacts

NOW = datetime(2026, 11, 23, 18, tzinfo=UTC)
MASK = Mask(table="public.t", column="v", expression="''")


def plan(*masks: Mask, **target: object) -> RestorePlan:
    facts = {
        "server": "shop",
        "system_identifier": "7",
        "major": 18,
        "database": "app",
        "database_oid": 5,
        "database_owner": "boss",
        "may_create": True,
        "may_rename": True,
    }
    return RestorePlan(
        copy_name="backup-20261123-120000",
        source_server="shop",
        source_database="app",
        store="backups",
        copy_sha256="x",
        copy_level=Level.COMPARED,
        snapshot_at=NOW,
        planned_at=NOW,
        loses_seconds=0,
        database_bytes=1000,
        target=TargetFacts.model_validate(facts | target),
        side_database="app__restore",
        kept_as="app__before",
        estimated_seconds=None,
        masks=masks,
        obstacles=(),
    )


def obstacles(made: RestorePlan, *, failed: bool = False, source: str = "7") -> str:
    return " ".join(
        restores.find_obstacles(made, source_identifier=source, source_major=18, copy_failed=failed)
    )


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ({}, ""),
        ({"major": 17}, "restore to a server of 18 or newer"),
        ({"may_create": False}, "CREATEDB"),
        ({"may_rename": False}, "use its owner boss"),
        ({"missing_roles": ("clerk",)}, 'CREATE ROLE "clerk" NOLOGIN;'),
        ({"missing_extensions": ("pg_trgm",)}, "install pg_trgm"),
        ({"prepared_transactions": 2}, "holds 2 prepared transactions"),
        ({"free_bytes": 1199}, "has 1,199 bytes free, the restore needs 1,200"),
        ({"free_bytes": 1200}, ""),
        ({"foreign_side_database": True}, "'app__restore' exists and is not FlowForge's"),
        ({"foreign_kept_database": True}, "'app__before' exists and is not FlowForge's"),
    ],
)
def test_every_obstacle_says_what_to_do(target: dict[str, object], said: str) -> None:
    found = obstacles(plan(**target))
    assert said in found
    assert bool(found) == bool(said)


def test_masks_keep_a_copy_from_its_own_source_only() -> None:
    assert "another name" in obstacles(plan(MASK))
    assert obstacles(plan(MASK, database="clone")) == ""
    assert obstacles(plan(MASK), source="8") == ""
    assert plan(MASK).digest != plan().digest


def test_a_side_database_is_known_by_its_mark_and_by_whose_place_it_is_for() -> None:
    mark = restores.mark("20261123-120000-0123456789ab", "app")
    assert restores.is_side_of(mark, "app")
    assert not restores.is_side_of(mark, "ap")
    assert not restores.is_side_of(mark, "app2")
    assert not restores.is_side_of(None, "app")
    assert not restores.is_side_of("somebody's, to app", "app")


def test_marks_of_kept_databases_are_read_as_they_were_written() -> None:
    for write in (kept.kept_mark, kept.undone_mark):
        assert kept.read_mark(write("some-id", NOW)) == ("some-id", NOW)
        assert write("some-id", NOW).startswith(write("some-id"))
    for other in (None, "", "flowforge: restored by restore x", "kept"):
        assert kept.read_mark(other) is None


def test_kept_databases_go_by_name_and_number_after_their_time() -> None:
    one = KeptDatabase(name="a", oid=1, restore_id="r", since=NOW - kept.KEPT_FOR, size_bytes=1)
    assert kept.choose_droppable([one], [("a", 1)], NOW, kept.KEPT_FOR) == (one,)
    assert kept.choose_droppable([one], [], NOW, kept.KEPT_FOR) == ()
    for chosen, age in (
        (("a", 2), kept.KEPT_FOR),
        (("b", 1), kept.KEPT_FOR),
        (("a", 1), kept.KEPT_FOR + timedelta(seconds=1)),
    ):
        with pytest.raises(Refused):
            kept.choose_droppable([one], [chosen], NOW, age)
