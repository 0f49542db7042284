"""Keep the tables of a snapshot as they are until every row has been read.

A table rewritten or truncated after the snapshot looks empty in it, in silence: neither is undone
by the row versions a snapshot keeps. So the tables are locked against that before the snapshot is
taken. Those that were made in between are locked behind it, and the files they lie in are compared
with those of the snapshot: where one changed, a new snapshot is taken.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from typing import Any, LiteralString

import psycopg

from flowforge.engines.backup.dumping.relations import Relation
from flowforge.errors import Refused, Unavailable

WAIT_SECONDS = 30.0
TOO_FEW_LOCKS = "Raise max_locks_per_transaction on the server and restart it."
_BATCH = 500

# The catalogue is read in the snapshot, the function looks at what is there now.
_CHANGED: LiteralString = """
SELECT count(*) FROM pg_catalog.pg_class c
 WHERE c.oid = ANY (%s) AND pg_catalog.pg_relation_filenode(c.oid) IS DISTINCT FROM c.relfilenode
"""


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """Say that a table stayed locked, when that is why something inside the block was given up.

    Raises:
        Unavailable: A lock was not had in time.
    """
    try:
        yield
    except psycopg.errors.LockNotAvailable as error:
        raise Unavailable(
            f"A table stayed locked for {WAIT_SECONDS:.0f} s.",
            hint="A migration or VACUUM FULL holds it; run the backup again when it is done.",
        ) from error


class Changed(Exception):
    """A table was changed between the snapshot and its lock: take another snapshot."""


def hold(session: psycopg.Connection[Any], relations: Sequence[Relation]) -> None:
    """Lock tables against changes of their form for as long as the transaction lasts.

    It reads nothing, so a transaction that has no snapshot yet still has none afterwards.

    Raises:
        Changed: One of them was dropped since it was listed.
        Unavailable: One stayed locked by somebody else.
        Refused: There are more tables than the server can lock at once.
    """
    deadline = time.monotonic() + WAIT_SECONDS
    try:
        with explained():
            for start in range(0, len(relations), _BATCH):
                names = [relation.quoted for relation in relations[start : start + _BATCH]]
                left = max(1, int((deadline - time.monotonic()) * 1000))
                session.execute(f"SET LOCAL lock_timeout = {left}")
                lock = f"LOCK TABLE ONLY {', ONLY '.join(names)} IN ACCESS SHARE MODE"
                session.execute(lock.encode())
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName) as error:
        raise Changed from error
    except psycopg.errors.OutOfMemory as error:
        raise Refused(
            f"The server cannot lock {len(relations):,} tables at once.",
            hint=TOO_FEW_LOCKS,
        ) from error


def hold_new(
    session: psycopg.Connection[Any], held: Sequence[Relation], seen: Sequence[Relation]
) -> None:
    """Lock the tables a snapshot sees that were not held when it was taken.

    Raises:
        Changed: One of them was changed or dropped since the snapshot.
        Unavailable: One stayed locked by somebody else.
        Refused: There are more tables than the server can lock at once.
    """
    known = {relation.oid for relation in held}
    new = [relation for relation in seen if relation.oid not in known]
    if new:
        hold(session, new)
        row = session.execute(_CHANGED, ([relation.oid for relation in new],)).fetchone()
        if row and row[0]:
            raise Changed
