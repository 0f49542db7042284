"""What exists in a database, an object a line, with a digest of its definition.

Two inventories say exactly which object is missing or different, where a hash of a whole schema
dump would only say that something is. Definitions are deparsed by the server, so their text is
compared between servers of one major version only; across versions, names are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib import resources
from typing import Any

import psycopg

_QUERY = resources.files(__package__).joinpath("definitions.sql").read_bytes()


def read_definitions(session: psycopg.Connection[Any]) -> dict[str, str]:
    """Every object of the session's database and a digest of its definition.

    The session's search path must be empty, so that every name is written in full.
    """
    session.execute("SELECT set_config('search_path', 'pg_catalog', false)")
    try:
        rows = session.execute(_QUERY).fetchall()
    finally:
        session.execute("SELECT set_config('search_path', '', false)")
    return {what: _digest(definition or "") for what, definition in sorted(rows)}


def schema_digest(definitions: Mapping[str, str]) -> str:
    """One digest for the whole inventory."""
    lines = (f"{what}\t{digest}\n" for what, digest in sorted(definitions.items()))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _digest(definition: str) -> str:
    return hashlib.sha256(definition.encode()).hexdigest()[:16]
