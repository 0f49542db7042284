"""Bring a copy back: into a side database, compared there, then into its place in one step.

Until the swap nothing live is touched; the swap is one transaction; the database that was live is
kept. Killed at any point and run again with the same agreed plan, it finds what it left: a side
database of its own is made anew, a finished swap is recognised and nothing is done twice.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import psycopg
from psycopg.sql import Composed

from flowforge.engines.backup import databases, loading, proof, targets
from flowforge.engines.backup.steps import reached
from flowforge.engines.backup.store import Store
from flowforge.engines.postgres import connection, installations
from flowforge.errors import Damaged, Refused
from flowforge.rules import comparison, names, restores
from flowforge.rules.addresses import PostgresAddress
from flowforge.rules.backups import Copy, Manifest
from flowforge.rules.restores import RestorePlan

_DONE = "flowforge: restored by restore {}"


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


def plan(
    store: Store,
    manifest: Manifest,
    copy: Copy,
    address: PostgresAddress,
    database: str,
    *,
    estimated_seconds: float | None = None,
) -> RestorePlan:
    """Look at a copy and at the place it would go to; touch neither.

    Args:
        store: Where the copy is.
        manifest: Its manifest.
        copy: Its catalogue entry.
        address: The server to restore to.
        database: The name the restored database shall have.
        estimated_seconds: How long a restore of it took last time.
    """
    names.check_database_name(database)
    now = datetime.now(UTC)
    side = restores.side_database(database, manifest.name)
    with (
        connection.explained(address, database),
        databases.maintenance_session(address, (database,)) as session,
    ):
        target, warnings = targets.look(session, address, database, manifest)
    oid = target.database_oid
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
        side_database=side,
        kept_as=None if oid is None else restores.kept_database(database, manifest.name, oid),
        estimated_seconds=estimated_seconds,
        obstacles=(),
        warnings=(*warnings, *_copy_warnings(copy)),
    )
    return _with_obstacles(address, made, manifest, copy)


def _with_obstacles(
    address: PostgresAddress, made: RestorePlan, manifest: Manifest, copy: Copy
) -> RestorePlan:
    taken = _is_foreign(address, made)
    target = made.target.model_copy(update={"foreign_side_database": taken})
    obstacles = restores.find_obstacles(
        target,
        source_major=manifest.server.major,
        copy_failed=copy.failed,
        side=made.side_database,
    )
    return made.model_copy(update={"target": target, "obstacles": obstacles})


def apply(
    store: Store,
    manifest: Manifest,
    address: PostgresAddress,
    made: RestorePlan,
    agreed: str | None,
) -> Restoration:
    """Do what was planned and agreed to.

    Args:
        store: Where the copy is.
        manifest: Its manifest.
        address: The server to restore to.
        made: The plan as it is now.
        agreed: The hash of the plan somebody read.

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
        restores.check_plan(made, agreed)
        try:
            _make_side(session, made, manifest)
            reached("side-create")
            compared = _fill_side(store, manifest, address, made)
            databases.apply_settings(session, made.side_database, manifest.database.settings)
        except BaseException:
            with contextlib.suppress(psycopg.OperationalError):  # gone; the next run drops it
                databases.drop(session, made.side_database)
            raise
        _take_place(session, made)
    seconds = round(time.monotonic() - clock, 3)
    return Restoration(made.restore_id, database, made.kept_as, compared, seconds)


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
        kept = databases.commented(session, restores.kept_mark(restore_id))
        if kept is None:
            raise Refused(
                f"{address.name} keeps no database from before restore {restore_id}.",
                hint="The restore's report names it; it may have been undone or dropped already.",
            )
        aside = restores.undone_database(database, databases.number(session, database))
        swapped = [
            databases.rename(database, aside),
            databases.rename(kept, database),
            databases.set_comment(database, databases.comment(session, database)),
            databases.set_comment(
                aside, f"flowforge: set aside when restore {restore_id} was undone"
            ),
            databases.allow_connections(aside),
        ]
        databases.swap(session, database, swapped)
    return Restoration(restore_id, database, aside, None)


def _copy_warnings(copy: Copy) -> list[str]:
    if copy.level < 3:
        return [f"this copy is proven only to {copy.level.label}: verify it first if there is time"]
    return []


def _is_foreign(address: PostgresAddress, made: RestorePlan) -> bool:
    """Tell whether a database of the side database's name exists that is not ours to drop.

    Ours carry a mark. One without a mark is ours too when it is empty: its maker was killed between
    creating and marking it.
    """
    with databases.maintenance_session(address, (made.target.database,)) as session:
        if not databases.exists(session, made.side_database):
            return False
        if databases.comment(session, made.side_database) == restores.mark(made.restore_id):
            return False
    return not databases.is_empty(address, made.side_database)


def _already_done(
    session: psycopg.Connection[Any], made: RestorePlan, agreed: str
) -> Restoration | None:
    restore_id = f"{made.copy_name.removeprefix('backup-')}-{agreed}"
    kept = databases.commented(session, restores.kept_mark(restore_id))
    if kept is None and databases.commented(session, _DONE.format(restore_id)) is None:
        return None
    return Restoration(restore_id, made.target.database, kept, None)


def _make_side(session: psycopg.Connection[Any], made: RestorePlan, manifest: Manifest) -> None:
    databases.drop(session, made.side_database)
    loading.create_database(
        session,
        made.side_database,
        manifest.database,
        major=made.target.major,
        owner=made.target.database_owner,
    )
    session.execute(databases.set_comment(made.side_database, restores.mark(made.restore_id)))


def _fill_side(
    store: Store, manifest: Manifest, address: PostgresAddress, made: RestorePlan
) -> comparison.Comparison:
    tools = installations.for_server(made.target.major)
    loading.load(store, manifest, tools, address, made.side_database)
    reached("load")
    with connection.connect(address, made.side_database) as session:
        session.execute("ANALYZE")
    compared, named = proof.compare_restored(store, manifest, tools, address, made.side_database)
    if compared.differences:
        raise Damaged(
            f"The restored copy is not what was dumped: {compared.differences[0]}.",
            hint="The live database was not touched. Choose another copy, and verify this one.",
            differences=[*named, *compared.differences],
        )
    reached("compare")
    return compared


def _take_place(session: psycopg.Connection[Any], made: RestorePlan) -> None:
    database, kept_as = made.target.database, made.kept_as
    statements: list[Composed] = []
    after: str | None = _DONE.format(made.restore_id)
    if kept_as is not None:
        after = databases.comment(session, database)
        statements += [
            databases.rename(database, kept_as),
            databases.set_comment(kept_as, restores.kept_mark(made.restore_id)),
            databases.allow_connections(kept_as),
        ]
    statements += [
        databases.rename(made.side_database, database),
        databases.set_comment(database, after),
    ]
    databases.swap(session, database if kept_as else None, statements)
    reached("swap")
