"""The drills of a database, kept in the store beside its copies: what a trend is made of."""

from __future__ import annotations

from collections.abc import Sequence

from flowforge.engines.backup.shelf import catalogue, inventory
from flowforge.engines.backup.stores.store import Store, Stored
from flowforge.rules import names
from flowforge.rules.drills import Drill


def add(store: Store, drill: Drill) -> None:
    """Keep what a drill found."""
    key = names.drill_key(drill.server, drill.database, drill.drilled_at)
    store.put_new(key, drill.to_json())


def read(store: Store, server: str, database: str, *, last: int = 12) -> list[Drill]:
    """The last drills of one database, oldest first."""
    return _read(store, list(store.listing(names.drills_prefix(server, database)))[-last:])


def read_all(store: Store) -> list[Drill]:
    """Every drill of every database: what a lost ledger is made again from."""
    found = inventory.take_all(store).values()
    return [drill for one in found for drill in _read(store, one.drills)]


def _read(store: Store, stored: Sequence[Stored]) -> list[Drill]:
    texts = catalogue.read_many(store, (one.key for one in stored))
    return [Drill.model_validate_json(text) for text in texts]
