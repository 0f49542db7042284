"""Side databases: where a copy is loaded before anything of it is seen under a name people use.

A side database carries a mark. One with the mark of a restore to the same database is dropped
without asking, by whoever holds that database's restore lock; any other is never touched.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import psycopg

from flowforge.engines.backup.loading import databases, loading
from flowforge.engines.backup.restoring import handover
from flowforge.engines.backup.steps import reached
from flowforge.errors import Damaged, FlowForgeError, Refused, Unavailable
from flowforge.rules import restores
from flowforge.rules.addresses import PostgresAddress
from flowforge.rules.backups import DatabaseFacts


def is_foreign(
    session: psycopg.Connection[Any], address: PostgresAddress, side: str, target: str
) -> bool:
    """Tell whether a database of the side database's name exists that is not ours to drop.

    Ours carry a mark. One without a mark is ours too when it is empty: its maker was killed between
    creating and marking it.
    """
    if not databases.exists(session, side):
        return False
    if restores.is_side_of(databases.comment(session, side), target):
        return False
    try:
        return not databases.is_empty(address, side)
    except (Refused, Unavailable):  # ours let us in
        return True


@contextlib.contextmanager
def side_database(
    session: psycopg.Connection[Any],
    address: PostgresAddress,
    side: str,
    *,
    target: str,
    restore_id: str,
    facts: DatabaseFacts,
    major: int,
) -> Iterator[None]:
    """Make an empty side database that only its owner may enter; drop it when the block fails.

    Args:
        session: A session on another database of the server, holding the target's restore lock.
        address: The server.
        side: What it is called.
        target: The database the restore is for.
        restore_id: The restore.
        facts: The original database.
        major: The server's major version.

    Raises:
        Refused: The name is taken by a database that is not ours.
        Damaged: The block failed and the side database could not be dropped.
    """
    if is_foreign(session, address, side, target):
        raise Refused(
            f"A database {side!r} exists and is not FlowForge's.", hint="Rename or drop it."
        )
    databases.drop(session, address, side)
    drop_abandoned(session, address, target)
    loading.create_database(session, side, facts, major=major)
    session.execute(databases.set_comment(side, restores.mark(restore_id, target)))
    handover.close_to_others(session, side)
    reached("side-create")
    try:
        yield
    except BaseException as error:
        _drop_after(session, address, side, error)
        raise


def drop_abandoned(session: psycopg.Connection[Any], address: PostgresAddress, target: str) -> None:
    """Drop what restores to a database left that were killed; only under its restore lock."""
    for name, comment in databases.comments(session):
        if restores.is_side_of(comment, target):
            databases.drop(session, address, name)


def _drop_after(
    session: psycopg.Connection[Any], address: PostgresAddress, side: str, error: BaseException
) -> None:
    try:
        databases.drop(session, address, side)
    except psycopg.OperationalError:
        if not session.closed:
            raise _left_behind(side, error) from error
        # The server is gone; the next restore to the same database drops it.
    except (psycopg.Error, FlowForgeError):
        raise _left_behind(side, error) from error


def _left_behind(side: str, error: BaseException) -> Damaged:
    return Damaged(
        f"The restore failed, and its side database {side!r} could not be dropped: {error}",
        hint=f'Drop it when the server is well: DROP DATABASE "{side}" WITH (FORCE);',
    )
