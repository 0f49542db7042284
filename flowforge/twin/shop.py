"""The sample shop: a believable company database to back up, lose and bring back.

About 80,000 rows in a dozen and a half tables, made by PostgreSQL itself in about a second, the
same to the byte each time.
"""

from __future__ import annotations

import hashlib
from importlib.resources import files

import psycopg

_SCRIPTS = ("shop_tables.sql", "shop_rows.sql", "shop_rules.sql")


def _read() -> tuple[str, ...]:
    return tuple((files(__package__) / name).read_text(encoding="utf-8") for name in _SCRIPTS)


VERSION = hashlib.sha256("".join(_read()).encode()).hexdigest()[:16]
"""Digest of what the shop is made of."""


def load(url: str) -> str:
    """Fill an empty database with the shop; leave one that has it alone.

    All of it happens in one transaction, so there is a whole shop or none.

    Args:
        url: The database, entered as its owner.

    Returns:
        A few words about what was done.
    """
    with psycopg.connect(url, connect_timeout=10) as session:
        # Two that start at once must not both fill it.
        session.execute("SELECT pg_advisory_xact_lock(hashtext('flowforge sample shop'))")
        found = session.execute("SELECT to_regclass('public.orders') IS NOT NULL").fetchone()
        if found is not None and found[0]:
            return "there already"
        session.execute("SET LOCAL timezone = 'UTC'")
        session.execute("SET LOCAL maintenance_work_mem = '64MB'")
        for script in _read():
            session.execute(script.encode())
        session.execute("ANALYZE")
        return f"{count_rows(session):,} rows"


def count_rows(session: psycopg.Connection[tuple[object, ...]]) -> int:
    """Count the rows of every table of the shop, each partition for itself."""
    tables = session.execute(
        "SELECT oid::regclass::text FROM pg_class WHERE relkind = 'r'"
        " AND relnamespace::regnamespace::text IN ('public', 'warehouse')"
    ).fetchall()
    counts = (session.execute(f"SELECT count(*) FROM {table}".encode()) for (table,) in tables)
    return sum(int(str(row[0])) for count in counts for row in count.fetchall())
