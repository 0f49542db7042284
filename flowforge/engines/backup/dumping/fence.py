"""The lock that keeps two backups of one database apart, and what tidies up away from both.

It is an advisory lock in the database itself: whoever works on that database's copies holds it, in
whatever process or cluster, and it goes when its session does.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import psycopg

from flowforge.engines.postgres import connection
from flowforge.errors import Busy
from flowforge.rules.addresses import PostgresAddress

_TRY_LOCK = "SELECT pg_try_advisory_lock(hashtextextended('flowforge.backup', 0))"


def take(session: psycopg.Connection[Any], address: PostgresAddress, database: str) -> None:
    """Take the backup lock of the database a session is in, until that session ends.

    Raises:
        Busy: Another backup of this database is running.
    """
    held = session.execute(_TRY_LOCK).fetchone()
    if not (held and held[0]):
        raise Busy(
            f"Another backup of {database!r} on {address.name} is running.",
            hint="Nothing to do: the running one wins, and the next one is scheduled.",
        )


@contextlib.contextmanager
def held(address: PostgresAddress, database: str) -> Iterator[None]:
    """Hold the backup lock of a database while the block runs.

    Raises:
        Busy: Another backup of this database is running.
        Refused: The database may not be entered, or is not there.
        Unavailable: The server does not answer.
    """
    with connection.explained(address, database), connection.connect(address, database) as session:
        take(session, address, database)
        yield
