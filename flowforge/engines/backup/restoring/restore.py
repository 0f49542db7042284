"""Bring a copy back: into a side database, compared there, then into its place in one step.

Until the swap nothing live is touched; the swap is one transaction; the database that was live is
kept. Killed at any point and run again with the same agreed plan, it finds what it left: a side
database of its own is made anew, a finished swap is recognised and nothing is done twice.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import psycopg

from flowforge.engines.backup.loading import databases, loading, reading
from flowforge.engines.backup.loading.parallel import OnProgress
from flowforge.engines.backup.proving import proof
from flowforge.engines.backup.restoring import handover, masking, sides, targets
from flowforge.engines.backup.steps import reached
from flowforge.engines.backup.stores.store import Store
from flowforge.engines.postgres import connection, installations
from flowforge.errors import Damaged, Refused
from flowforge.rules import comparison, kept, names, restores
from flowforge.rules.addresses import PostgresAddress
from flowforge.rules.backups import Copy, Manifest
from flowforge.rules.masks import Mask, MaskedTable
from flowforge.rules.restores import RestorePlan, TargetFacts


@dataclass(frozen=True)
class Restoration:
    """What a restore did."""

    restore_id: str
    database: str
    kept_as: str | None
    """The name of the database that was live before, if there was one."""

    compared: comparison.Comparison | None
    """`None` when an earlier, killed run had already done it all."""

    seconds: float = 0.0
    """How long loading, comparing and swapping took."""

    masked: tuple[MaskedTable, ...] = ()
    """What was masked in it before anybody could see it."""


def plan(
    store: Store,
    manifest: Manifest,
    copy: Copy,
    address: PostgresAddress,
    database: str,
    *,
    masks: Sequence[Mask] = (),
    estimated_seconds: float | None = None,
) -> RestorePlan:
    """Look at a copy and at the place it would go to; touch neither.

    Args:
        store: Where the copy is.
        manifest: Its manifest.
        copy: Its catalogue entry.
        address: The server to restore to.
        database: The name the restored database shall have.
        masks: What columns shall hold in place of what they held.
        estimated_seconds: How long a restore of it took last time.

    Raises:
        Refused: A mask names what the copy does not hold, or is no expression.
    """
    names.check_database_name(database)
    masks = masking.check(manifest, masks)
    now = datetime.now(UTC)
    target, kept_as, warnings = _look(address, database, manifest)
    made = RestorePlan(
        copy_name=manifest.name,
        source_server=manifest.server.name,
        source_database=manifest.database.name,
        store=store.name,
        copy_sha256=manifest.data.sha256,
        copy_level=copy.level,
        snapshot_at=manifest.snapshot_at,
        planned_at=now,
        loses_seconds=(now - manifest.snapshot_at).total_seconds(),
        database_bytes=manifest.database.size_bytes,
        target=target,
        side_database=restores.side_database(database, manifest.name),
        kept_as=kept_as,
        estimated_seconds=estimated_seconds,
        masks=masks,
        obstacles=(),
        warnings=(*warnings, *_copy_warnings(copy, manifest, masks)),
    )
    obstacles = restores.find_obstacles(
        made,
        source_identifier=manifest.server.system_identifier,
        source_major=manifest.server.major,
        copy_failed=copy.failed,
    )
    return made.model_copy(update={"obstacles": obstacles})


def _look(
    address: PostgresAddress, database: str, manifest: Manifest
) -> tuple[TargetFacts, str | None, list[str]]:
    """The place a copy would go to, the name the live database would get, and what to mind."""
    side = restores.side_database(database, manifest.name)
    with (
        connection.explained(address, database),
        databases.maintenance_session(address, (database,)) as session,
    ):
        target, warnings = targets.look(session, address, database, manifest)
        oid = target.database_oid
        kept_as = None if oid is None else restores.kept_database(database, manifest.name, oid)
        taken = {
            "foreign_side_database": sides.is_foreign(session, address, side, database),
            "foreign_kept_database": bool(kept_as) and databases.exists(session, kept_as or ""),
        }
    return target.model_copy(update=taken), kept_as, warnings


def apply(
    store: Store,
    manifest: Manifest,
    address: PostgresAddress,
    made: RestorePlan,
    agreed: str | None,
    *,
    on_progress: OnProgress = lambda *_: None,
) -> Restoration:
    """Do what was planned and agreed to.

    Args:
        store: Where the copy is.
        manifest: Its manifest.
        address: The server to restore to.
        made: The plan as it is now.
        agreed: The hash of the plan somebody read.
        on_progress: Told the stored bytes done, those in all, and the table just loaded.

    Raises:
        Busy: Another restore to this database is running.
        Refused: The plan is another one now, or something stands in the way.
        Damaged: The restored copy is not what was dumped; the live database was not touched.
        Unavailable: The server went away or sessions kept the database busy.
    """
    database, clock = made.target.database, time.monotonic()
    with (
        connection.explained(address, database),
        databases.maintenance_session(address, (database,)) as session,
    ):
        databases.lock_target(session, database)
        if agreed and (done := _already_done(session, made, agreed)):
            return done
        restores.check_plan(made.digest, made.obstacles, agreed)
        reading.check_at_hand(store, manifest)
        with sides.side_database(
            session,
            address,
            made.side_database,
            target=database,
            restore_id=made.restore_id,
            facts=manifest.database,
            major=made.target.major,
        ):
            compared, masked = _fill_side(store, manifest, address, made, on_progress)
            databases.apply_settings(session, made.side_database, manifest.database.settings)
            reached("settings")
            _take_place(session, made)
    seconds = round(time.monotonic() - clock, 3)
    return Restoration(made.restore_id, database, made.kept_as, compared, seconds, masked)


def undo(address: PostgresAddress, database: str, restore_id: str) -> Restoration:
    """Put the database back that was live before a restore; the restored one is kept aside.

    Raises:
        Refused: Nothing was kept from before that restore.
    """
    with (
        connection.explained(address, database),
        databases.maintenance_session(address, (database,)) as session,
    ):
        databases.lock_target(session, database)
        before = databases.commented(session, kept.kept_mark(restore_id))
        if before is None:
            raise Refused(
                f"{address.name} keeps no database from before restore {restore_id}.",
                hint="The restore's report names it; it may have been undone or dropped already.",
            )
        aside = restores.undone_database(database, databases.number(session, database))
        swapped = [
            databases.rename(database, aside),
            databases.rename(before, database),
            databases.set_comment(database, databases.comment(session, database)),
            databases.set_comment(aside, kept.undone_mark(restore_id, datetime.now(UTC))),
            databases.allow_connections(aside),
        ]
        databases.swap(session, database, swapped)
    return Restoration(restore_id, database, aside, None)


def find_done(address: PostgresAddress, database: str, order: str) -> Restoration | None:
    """What was done for an order, as the comments on the server's databases say, if it was."""
    with (
        connection.explained(address, database),
        databases.maintenance_session(address, (database,)) as session,
    ):
        for name, comment in databases.comments(session):
            if (restore_id := kept.restore_done_for(comment, order)) is not None:
                return Restoration(restore_id, database, None if name == database else name, None)
    return None


def _copy_warnings(copy: Copy, manifest: Manifest, masks: Sequence[Mask]) -> list[str]:
    warnings = []
    if copy.level < 3:
        warnings.append(
            f"this copy is proven only to {copy.level.label}: verify it first if there is time"
        )
    if masks and manifest.large_objects.count:
        warnings.append(
            f"{manifest.large_objects.count:,} large objects are not masked: a mask is of a column"
        )
    return warnings


def _already_done(
    session: psycopg.Connection[Any], made: RestorePlan, agreed: str
) -> Restoration | None:
    restore_id = f"{made.copy_name.removeprefix('backup-')}-{agreed}"
    before = databases.commented(session, kept.kept_mark(restore_id))
    if before is None and databases.commented(session, kept.done_mark(restore_id)) is None:
        return None
    return Restoration(restore_id, made.target.database, before, None)


def _fill_side(
    store: Store,
    manifest: Manifest,
    address: PostgresAddress,
    made: RestorePlan,
    on_progress: OnProgress,
) -> tuple[comparison.Comparison, tuple[MaskedTable, ...]]:
    tools, side = installations.for_server(made.target.major), made.side_database
    loading.load(store, manifest, tools, address, side, on_progress=on_progress)
    reached("load")
    compared, named = proof.compare_restored(store, manifest, tools, address, side)
    if compared.differences:
        raise Damaged(
            f"The restored copy is not what was dumped: {compared.differences[0]}.",
            hint="The live database was not touched. Choose another copy, and verify this one.",
            differences=[*named, *compared.differences],
        )
    reached("compare")
    masked = masking.apply(address, side, made.masks) if made.masks else ()
    with connection.connect(address, side) as session:
        session.execute("ANALYZE")
    return compared, masked


def _take_place(session: psycopg.Connection[Any], made: RestorePlan) -> None:
    database, kept_as, side = made.target.database, made.kept_as, made.side_database
    statements = handover.open_new(side)
    after: str | None = kept.done_mark(made.restore_id, made.order)
    if kept_as is not None:
        after = databases.comment(session, database)
        statements = [
            *handover.take_over(session, database, side),
            databases.rename(database, kept_as),
            databases.set_comment(
                kept_as, kept.kept_mark(made.restore_id, datetime.now(UTC), made.order)
            ),
            databases.allow_connections(kept_as),
        ]
    statements += [
        databases.rename(side, database),
        databases.set_comment(database, after),
    ]
    databases.swap(session, database if kept_as else None, statements)
    reached("swap")
