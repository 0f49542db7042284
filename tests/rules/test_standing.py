"""What is said of a database's protection is what its copies and drills show."""

from __future__ import annotations

from datetime import timedelta

import pytest

from flowforge.rules import alerts, standing, standing_reports
from flowforge.rules.alerts import BackupRuns
from flowforge.rules.backups import Copy
from flowforge.rules.standing import SWITCH_SECONDS, DatabaseStanding, known_of, stand, trend_of
from tests.rules.test_drills import a_drill
from tests.rules.test_retention import NOW, copy

HOUR = 3600.0


def in_store(made: Copy, store: str) -> Copy:
    return made.model_copy(update={"store": store})


def proven(made: Copy, *, hours_ago: float) -> Copy:
    return made.model_copy(update={"proven_at": NOW - timedelta(hours=hours_ago)})


def standing_of(*copies: Copy, seconds: tuple[float, ...] = ()) -> DatabaseStanding:
    drills = [a_drill(len(seconds) - n, one) for n, one in enumerate(seconds)]
    (found,) = stand(known_of(copies, drills), NOW)
    return found


def test_what_would_be_lost_is_what_came_after_the_newest_copy_read_back() -> None:
    found = standing_of(copy(1, 0), copy(7, 1), copy(13, 3))
    assert found.newest_copy == copy(1).name
    assert (found.age_seconds, found.rpo_seconds) == (HOUR, 7 * HOUR)
    assert found.verdict == "missed"


def test_each_store_has_its_own_loss_and_one_may_be_behind() -> None:
    copies = [copy(1), copy(7), in_store(copy(7), "vault"), in_store(copy(1, 0), "vault")]
    found = standing_of(*copies, seconds=(60,))
    assert [(s.store, s.copies, s.rpo_seconds, s.behind_seconds) for s in found.stores] == [
        ("backups", 2, HOUR, 0.0),
        ("vault", 2, 7 * HOUR, 6 * HOUR),
    ]
    assert found.rpo_seconds == HOUR
    (row,) = standing_reports.rows([found])
    assert row["stores"] == "backups: 2 copies; vault: 2 copies, 6 h 00 min behind"


def test_a_store_without_a_copy_read_back_is_behind_all_the_time() -> None:
    found = standing_of(copy(2), in_store(copy(1, 0), "vault"))
    assert found.stores[1].newest_copy is None
    assert found.stores[1].behind_seconds == 2 * HOUR


def test_the_newest_proof_is_of_any_copy() -> None:
    found = standing_of(copy(1, 1), proven(copy(30), hours_ago=3), proven(copy(24), hours_ago=20))
    assert found.proof_age_seconds == 3 * HOUR
    assert standing_of(copy(1, 1)).proof_age_seconds is None


def test_bringing_it_back_takes_what_the_last_drill_took_and_the_switch() -> None:
    assert standing_of(copy(1), seconds=(500, 60)).rto_seconds == 60 + SWITCH_SECONDS
    assert standing_of(copy(1), seconds=(500, 60)).verdict == "kept"
    assert standing_of(copy(1), seconds=(60, 900)).verdict == "missed"
    assert standing_of(copy(1)).verdict == "unknown"


def test_until_there_is_a_drill_the_last_proof_says_how_long_bringing_it_back_takes() -> None:
    proofs = [a_drill(2, 500), a_drill(1, 60)]
    (found,) = stand(known_of([copy(1)], (), proofs), NOW)
    assert (found.rto_seconds, found.verdict) == (60 + SWITCH_SECONDS, "kept")
    assert found.trend.seconds == ()
    (row,) = standing_reports.rows([found])
    assert row["RTO"] == (
        f"1 min 30 s ≤ 15 min 00 s, measured by the proof of {proofs[0].copy_name}; no drill yet"
    )

    (drilled,) = stand(known_of([copy(1)], [a_drill(9, 100), a_drill(8, None)], proofs), NOW)
    assert (drilled.rto_seconds, drilled.rto_proof_of) == (100 + SWITCH_SECONDS, None)
    assert standing_of(copy(1)).rto_proof_of is None
    (row,) = standing_reports.rows([standing_of(copy(1))])
    assert row["RTO"] == "no drill, no proof yet (target 15 min 00 s)"


def test_a_trend_says_when_the_target_will_be_missed() -> None:
    drills = [a_drill(days, 700 - 10 * days) for days in range(11, -1, -1)]
    found = trend_of(drills, NOW, 900)
    assert found.seconds_per_day == pytest.approx(10)
    assert found.crosses_on == (NOW + timedelta(days=17)).date()
    assert (
        standing_reports.trend(found)
        == f"▁▂▂▃▄▄▅▅▆▇▇█ +10.0 s a day, too slow on {found.crosses_on}"
    )


@pytest.mark.parametrize(
    ("seconds", "crosses"),
    [((60, 60, 60), None), ((90, 80, 70), None), ((2000, 2000, 2000), "today"), ((60, 90), None)],
)
def test_a_trend_crosses_only_where_it_leads_there(
    seconds: tuple[float, ...], crosses: str | None
) -> None:
    drills = [a_drill(len(seconds) - n, one) for n, one in enumerate(seconds)]
    found = trend_of(drills, NOW, 900).crosses_on
    assert found == (NOW.date() if crosses else None)


def test_a_database_whose_copies_all_failed_is_shown_by_the_newest_of_them() -> None:
    found = standing_of(copy(1, failed=True), copy(2, failed=True))
    assert (found.failed, found.rpo_seconds, found.verdict) == (True, None, "missed")
    assert standing_reports.rows([found])[0]["RPO now"] == "no copy (target 6 h 00 min)"


def test_rows_begin_with_what_needs_somebody_and_end_with_how_many_more() -> None:
    kept = standing_of(copy(1), seconds=(60,))
    missed = standing_of(copy(9), seconds=(60,)).model_copy(update={"database": "zzz"})
    rows = standing_reports.rows([kept, missed])
    assert [row["promise"] for row in rows] == ["missed", "kept"]
    assert rows[1]["RPO now"] == "1 h 00 min ≤ 6 h 00 min"
    assert rows[1]["RTO"] == "1 min 30 s ≤ 15 min 00 s"
    many = standing_reports.rows([kept] * 60)
    assert len(many) == standing_reports.MOST_DATABASES + 1
    assert many[-1]["database"] == "and 10 more"
    assert standing_reports.rows([]) == []
    assert standing_reports.headline([kept, missed]).endswith("missed: shop/zzz")


def test_people_are_told_when_no_copy_was_proven_for_thirty_days() -> None:
    month = 30 * 24 * HOUR
    oldest = copy(24 * 31)
    fresh, stale = proven(copy(1), hours_ago=1), proven(copy(1), hours_ago=24 * 31)
    (alert,) = alerts.find_unverified([oldest], [stale], NOW, month)
    assert (alert.event, alert.facts["proven_copy"]) == (alerts.UNVERIFIED, stale.name)
    assert alerts.find_unverified([oldest], [fresh], NOW, month) == []
    assert alerts.find_unverified([copy(24 * 29)], [], NOW, month) == []
    (never,) = alerts.find_unverified([oldest], [], NOW, month)
    assert never.facts["proven_copy"] is None


def test_one_skipped_backup_is_nothing_and_two_in_a_row_are_told() -> None:
    def runs(in_a_row: int) -> BackupRuns:
        return BackupRuns(
            server="shop",
            database="app",
            skipped_total=9,
            skipped_in_a_row=in_a_row,
            skipped_since="run-1",
        )

    assert alerts.find_skipped([runs(1)]) == []
    assert [one.about for one in alerts.find_skipped([runs(2)])] == ["run-1"]
    known = known_of([copy(1)]).model_copy(update={"runs": (runs(2),)})
    (found,) = stand(known, NOW, standing.Targets(rto_minutes=1, rpo_hours=0.5))
    assert (found.skipped_total, found.skipped_in_a_row) == (9, 2)
    assert found.rpo_target_seconds == 1800
