"""Compare the indexes of a restored database with the rows of their tables, by `amcheck`.

It works on a scratch server only: it adds the extension to the database when it is not there.
"""

from __future__ import annotations

import time
from typing import NamedTuple

import psycopg

from flowforge.engines.postgres import connection
from flowforge.rules.addresses import PostgresAddress

_LONGEST_SECONDS = 24 * 3600.0
_INDEXES = """
SELECT i.indexrelid::int8, format('%I.%I', n.nspname, c.relname)
  FROM pg_catalog.pg_index i
  JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_catalog.pg_am a ON a.oid = c.relam
 WHERE a.amname = 'btree' AND c.relkind = 'i' AND i.indisready AND i.indisvalid
   AND n.nspname !~ '^pg_' ORDER BY c.relpages, 1
"""
_SCHEMA = "SELECT extnamespace::regnamespace::text FROM pg_extension WHERE extname = 'amcheck'"


class Checked(NamedTuple):
    """What was found."""

    indexes: int
    differences: tuple[str, ...]
    remarks: tuple[str, ...]


def check(address: PostgresAddress, database: str, *, until: float) -> Checked:
    """Check every B-tree index, the smallest first: each row must be in it, where it belongs.

    Args:
        address: A scratch server, entered as its superuser.
        database: The restored database.
        until: `time.monotonic()` after which the rest is left out.
    """
    with connection.explained(address), connection.connect(address, database) as session:
        try:
            session.execute("CREATE EXTENSION IF NOT EXISTS amcheck SCHEMA pg_catalog")
        except (psycopg.errors.FeatureNotSupported, psycopg.errors.UndefinedFile):
            return Checked(0, (), ("indexes were not checked: amcheck is not installed here",))
        row = session.execute(_SCHEMA).fetchone()
        assert row is not None
        call = f"SELECT {row[0]}.bt_index_check(%s::oid::regclass, true)"
        found = session.execute(_INDEXES).fetchall()
        differences: list[str] = []
        for done, (oid, name) in enumerate(found):
            left = min(until - time.monotonic(), _LONGEST_SECONDS)
            try:
                if left <= 0:
                    raise psycopg.errors.QueryCanceled
                session.execute(f"SET statement_timeout = {max(1, int(left * 1000))}")
                session.execute(call.encode(), (oid,))
            except psycopg.errors.QueryCanceled:
                said = f"{len(found) - done} indexes were not checked: the time budget was spent"
                return Checked(done, tuple(differences), (said,))
            except (psycopg.errors.IndexCorrupted, psycopg.errors.DataCorrupted) as error:
                differences.append(f"index {name}: {error.diag.message_primary}")
        return Checked(len(found), tuple(differences), ())
