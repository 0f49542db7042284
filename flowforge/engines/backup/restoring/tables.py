"""Bring back one table, or several: planned, agreed to, into a schema beside the live ones.

They pass through a side database on the same server, so that nothing but whole and compared tables
is ever seen in the live one. There they appear in one transaction. Nothing refers to them and they
refer to nothing; what to do with their rows is for whoever asked for them.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import psycopg
from psycopg.sql import SQL, Identifier

from flowforge.engines.backup.loading import databases, excerpt, loading, reading
from flowforge.engines.backup.loading.destination import Destination
from flowforge.engines.backup.loading.parallel import OnProgress
from flowforge.engines.backup.restoring import moving, sides, tablenames, targets
from flowforge.engines.backup.steps import reached
from flowforge.engines.backup.stores.store import Store
from flowforge.engines.postgres import connection, installations
from flowforge.errors import Refused
from flowforge.rules import names, restores, table_restores
from flowforge.rules.addresses import PostgresAddress
from flowforge.rules.backups import Copy, Manifest
from flowforge.rules.table_restores import RestoredTable, TablePlan

_SCHEMA = """
SELECT nspname FROM pg_catalog.pg_namespace
 WHERE pg_catalog.obj_description(oid, 'pg_namespace') = %s
"""
_MAY_CREATE = (
    "SELECT pg_catalog.has_database_privilege(current_database(), 'CREATE'),"
    " EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = %s"
    "   AND pg_catalog.obj_description(oid, 'pg_namespace') IS DISTINCT FROM %s)"
)
_TABLES = (
    "SELECT relname FROM pg_catalog.pg_class"
    " WHERE relnamespace = %s::regnamespace AND relkind IN ('r', 'p')"
)


@dataclass(frozen=True)
class TableRestoration:
    """What a restore of tables did."""

    restore_id: str
    database: str
    schema: str
    tables: tuple[RestoredTable, ...]
    """Empty when an earlier, killed run had already done it all."""

    seconds: float = 0.0


def plan(
    store: Store,
    manifest: Manifest,
    copy: Copy,
    address: PostgresAddress,
    database: str,
    tables: Sequence[str],
) -> TablePlan:
    """Look at a copy and at the database its tables would go into; touch neither.

    Args:
        store: Where the copy is.
        manifest: Its manifest.
        copy: Its catalogue entry.
        address: The server.
        database: The live database; no table in it is touched.
        tables: What is wanted, as somebody types it.

    Raises:
        Refused: The copy holds no such table, or the name could mean several.
    """
    names.check_database_name(database)
    chosen = tuple(dict.fromkeys(tablenames.choose(manifest, typed) for typed in tables))
    if not chosen:
        raise Refused("No table was named.", hint="Name at least one, for example `orders`.")
    side = restores.side_database(database, manifest.name)
    with (
        connection.explained(address, database),
        databases.maintenance_session(address, (database,)) as session,
    ):
        target, warnings = targets.look(session, address, database, manifest)
        taken = sides.is_foreign(session, address, side, database)
    made = TablePlan(
        copy_name=manifest.name,
        source_server=manifest.server.name,
        source_database=manifest.database.name,
        store=store.name,
        copy_sha256=manifest.data.sha256,
        copy_level=copy.level,
        snapshot_at=manifest.snapshot_at,
        planned_at=datetime.now(UTC),
        tables=chosen,
        raw_bytes=sum(table.raw_bytes for table in manifest.tables if table.name in chosen),
        target=target.model_copy(update={"foreign_side_database": taken}),
        side_database=side,
        obstacles=(),
        warnings=tuple(warnings),
    )
    return _with_obstacles(made, manifest, copy, address)


def _with_obstacles(
    made: TablePlan, manifest: Manifest, copy: Copy, address: PostgresAddress
) -> TablePlan:
    if made.target.database_oid is not None:
        mark = table_restores.mark(made.restore_id)
        with connection.connect(address, made.target.database) as session:
            row = session.execute(_MAY_CREATE, (made.schema_name, mark)).fetchone()
            assert row is not None
        made = made.model_copy(update={"may_create_schema": row[0], "foreign_schema": row[1]})
    obstacles = table_restores.find_obstacles(
        made, source_major=manifest.server.major, copy_failed=copy.failed
    )
    return made.model_copy(update={"obstacles": obstacles})


def apply(
    store: Store,
    manifest: Manifest,
    address: PostgresAddress,
    made: TablePlan,
    agreed: str | None,
    *,
    on_progress: OnProgress = lambda *_: None,
) -> TableRestoration:
    """Do what was planned and agreed to.

    Args:
        store: Where the copy is.
        manifest: Its manifest.
        address: The server.
        made: The plan as it is now.
        agreed: The hash of the plan somebody read.
        on_progress: Told the stored bytes done, those in all, and the table just loaded.

    Raises:
        Busy: Another restore to this database is running.
        Refused: The plan is another one now, or something stands in the way.
        Damaged: The restored tables are not what was dumped; nothing of them can be seen.
        Unavailable: The server or the store went away.
    """
    database, clock = made.target.database, time.monotonic()
    with (
        connection.explained(address, database),
        databases.maintenance_session(address, (database,)) as session,
    ):
        databases.lock_target(session, database)
        restores.check_plan(made.digest, made.obstacles, agreed)
        if _find(address, database, made.restore_id) is not None:
            sides.drop_abandoned(session, address, database)
            return TableRestoration(made.restore_id, database, made.schema_name, ())
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
            restored = _bring(store, manifest, address, made, on_progress)
        databases.drop(session, address, made.side_database)
    seconds = round(time.monotonic() - clock, 3)
    return TableRestoration(made.restore_id, database, made.schema_name, restored, seconds)


def _bring(
    store: Store,
    manifest: Manifest,
    address: PostgresAddress,
    made: TablePlan,
    on_progress: OnProgress,
) -> tuple[RestoredTable, ...]:
    tools = installations.for_server(made.target.major)
    side = Destination(manifest, tools, address, made.side_database)
    connections = loading.CONNECTIONS
    found = excerpt.load(store, side, made.tables, connections=connections, on_progress=on_progress)
    mark = table_restores.mark(made.restore_id)
    gathered = moving.gather(side, found, made.schema_name, mark)
    reached("move")
    restored = moving.send(side, made.target.database, made.schema_name, gathered)
    reached("tables")
    return restored


def undo(address: PostgresAddress, database: str, restore_id: str) -> str:
    """Drop the schema a restore of tables made, and return its name.

    Raises:
        Refused: There is none, or something outside it has come to depend on its tables.
    """
    schema = _find(address, database, restore_id)
    if schema is None:
        raise Refused(
            f"{database!r} holds no tables of restore {restore_id}.",
            hint="The restore's report names it; it may have been undone already.",
        )
    with connection.connect(address, database) as session:
        rows = session.execute(_TABLES, (schema,)).fetchall()
        tables = SQL(", ").join(Identifier(schema, table) for (table,) in rows)
        try:
            with session.transaction():
                session.execute(SQL("DROP TABLE {}").format(tables))
                session.execute(SQL("DROP SCHEMA {}").format(Identifier(schema)))
        except psycopg.errors.DependentObjectsStillExist as error:
            raise Refused(
                f"Something depends on the tables in {schema}: {error.diag.message_detail}",
                hint="Drop or move that first; nothing was dropped.",
            ) from error
    return schema


def _find(address: PostgresAddress, database: str, restore_id: str) -> str | None:
    """The schema that carries a restore's mark."""
    with connection.connect(address, database) as session:
        row = session.execute(_SCHEMA, (table_restores.mark(restore_id),)).fetchone()
        return row[0] if row else None
