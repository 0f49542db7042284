"""How well each database is protected, as metrics.

Ages are computed when asked, from copies that were read lately.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from flowforge.rules import standing
from flowforge.rules.backups import Copy
from flowforge.rules.proofs import Level
from flowforge.rules.standing import DatabaseStanding, Known

_PLACE = ("server", "database")


class Protection(Collector):
    """One series per database, and where it says so per store or per level."""

    def __init__(self, known: Callable[[], Known]) -> None:
        self._known = known

    def collect(self) -> Iterable[Metric]:
        """Compute every metric from what is known now."""
        known, now = self._known(), datetime.now(UTC)
        found = standing.stand(known, now)
        yield _ages(known, now)
        yield _gauge(
            "flowforge_backup_level",
            "Highest proof level of the newest copy",
            ((one, one.level) for one in found),
        )
        yield _gauge(
            "flowforge_backup_bytes",
            "Stored size of the newest copy",
            ((one, one.size_bytes) for one in found),
        )
        yield _gauge(
            "flowforge_backup_proof_age_seconds",
            "Time since a copy was last restored and compared",
            ((one, one.proof_age_seconds) for one in found),
        )
        yield _gauge(
            "flowforge_restore_seconds",
            "Time to bring the database back, as the last drill measured it, or the last proof",
            ((one, one.rto_seconds) for one in found),
        )
        yield _gauge(
            "flowforge_backup_orphans",
            "Objects of no copy in its store, as the last backup saw them",
            ((one, one.orphans) for one in found),
        )
        yield from (_skipped(known), _behind(found))


def _ages(known: Known, now: datetime) -> Metric:
    """The age of the newest copy at each level; every store's newest read-back copy counts."""
    family = GaugeMetricFamily(
        "flowforge_backup_age_seconds",
        "Age of the newest copy's snapshot, by the level it reached at least",
        labels=(*_PLACE, "level"),
    )
    newest: dict[tuple[str, str, Level], Copy] = {}
    for copy in (*known.newest, *known.usable, *known.proven):
        for level in Level:
            key = (copy.server, copy.database, level)
            reached = copy.level >= level
            if reached and (key not in newest or newest[key].snapshot_at < copy.snapshot_at):
                newest[key] = copy
    for (server, database, reached_level), copy in sorted(newest.items(), key=lambda one: one[0]):
        age = (now - copy.snapshot_at).total_seconds()
        family.add_metric((server, database, str(int(reached_level))), age)
    return family


def _skipped(known: Known) -> Metric:
    family = CounterMetricFamily(
        "flowforge_backup_skipped",
        "Backups that ended because another one of the same database was running",
        labels=_PLACE,
    )
    for runs in known.runs:
        family.add_metric((runs.server, runs.database), runs.skipped_total)
    return family


def _behind(found: Sequence[DatabaseStanding]) -> Metric:
    family = GaugeMetricFamily(
        "flowforge_backup_store_behind_seconds",
        "How far a store is behind the one that is ahead",
        labels=(*_PLACE, "store"),
    )
    for one in found:
        for store in one.stores:
            family.add_metric((one.server, one.database, store.store), store.behind_seconds)
    return family


def _gauge(name: str, said: str, values: Iterator[tuple[DatabaseStanding, float | None]]) -> Metric:
    family = GaugeMetricFamily(name, said, labels=_PLACE)
    for one, value in values:
        if value is not None:
            family.add_metric((one.server, one.database), float(value))
    return family
