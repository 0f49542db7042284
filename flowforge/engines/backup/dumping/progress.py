"""How far a long piece of work has come."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """How far a copy has come."""

    table: str | None
    tables_done: int
    raw_bytes: int
    database_bytes: int
    """Size of the database on the server's disk: a guide, not the size of its text."""
