"""Databases that restores set aside on a server: listed, and dropped when somebody says so."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

from flowforge.engines.backup.loading import databases
from flowforge.engines.backup.restoring import subscriptions
from flowforge.engines.postgres import connection
from flowforge.rules import kept
from flowforge.rules.addresses import PostgresAddress
from flowforge.rules.kept import KeptDatabase

_COMMENTED = """
SELECT datname, oid::bigint, pg_catalog.shobj_description(oid, 'pg_database'),
       pg_catalog.pg_database_size(oid)
  FROM pg_catalog.pg_database
 WHERE starts_with(pg_catalog.shobj_description(oid, 'pg_database'), 'flowforge: ')
 ORDER BY datname
"""


def list_kept(address: PostgresAddress) -> tuple[KeptDatabase, ...]:
    """Every database on a server that a restore or its undoing set aside."""
    with (
        connection.explained(address),
        databases.maintenance_session(address) as session,
    ):
        rows = session.execute(_COMMENTED).fetchall()
    found = []
    for name, oid, comment, size_bytes in rows:
        if (mark := kept.read_mark(comment)) is not None:
            restore_id, since = mark
            found.append(
                KeptDatabase(
                    name=name, oid=oid, restore_id=restore_id, since=since, size_bytes=size_bytes
                )
            )
    return tuple(found)


def drop_kept(
    address: PostgresAddress,
    chosen: Iterable[tuple[str, int]],
    *,
    older_than: timedelta = kept.KEPT_FOR,
) -> tuple[KeptDatabase, ...]:
    """Drop databases that were set aside, and return them.

    Args:
        address: The server.
        chosen: Name and number of each, as `list_kept` showed them.
        older_than: How long each must have been kept.

    Raises:
        Refused: One is not kept, is another one by now, has not been kept long enough, or still
            receives by a subscription; none was dropped then.
    """
    held = list_kept(address)
    with (
        connection.explained(address),
        databases.maintenance_session(address, tuple(one.name for one in held)) as session,
    ):
        row = session.execute("SELECT clock_timestamp()").fetchone()
        assert row is not None
        going = kept.choose_droppable(held, chosen, row[0], older_than)
        for one in going:
            subscriptions.check(session, one.name)
        for one in going:
            # Its name holds its number, so no other database can have come by it since.
            databases.drop(session, address, one.name)
    return going
