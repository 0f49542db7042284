"""What lies in one database's place of a store, sorted in one listing by the copy it belongs to."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from flowforge.engines.backup.stores.store import Store, Stored
from flowforge.rules import names


@dataclass
class Inventory:
    """One database's objects. Copies are those with a manifest."""

    server: str
    database: str
    manifests: dict[str, Stored] = field(default_factory=dict)
    """By the name of the copy."""

    parts: dict[str, list[Stored]] = field(default_factory=lambda: defaultdict(list))
    """Everything else that belongs to a copy, by its name, whether or not it has a manifest."""

    summaries: list[Stored] = field(default_factory=list)
    """Oldest first."""

    drills: list[Stored] = field(default_factory=list)
    """Oldest first."""

    def keys_of(self, name: str, kind: str) -> list[str]:
        """Keys of one copy's proofs, keys, holds or acceptance."""
        return [part.key for part in self.parts.get(name, ()) if f"/{kind}/" in part.key]

    def marked(self, kind: str) -> frozenset[str]:
        """Names of the copies with an object of a kind, for example `holds`."""
        return frozenset(name for name in self.manifests if self.keys_of(name, kind))


def take(store: Store, server: str, database: str) -> Inventory:
    """List one database's place."""
    found = sort(store.listing(names.prefix(server, database)))
    return found.get((server, database), Inventory(server, database))


def take_all(store: Store) -> dict[tuple[str, str], Inventory]:
    """List the places of all databases, by (server, database)."""
    listed = (store.listing(f"{kind}/") for kind in ("postgres", "redis"))
    return sort(itertools.chain.from_iterable(listed))


def sort(listed: Iterable[Stored]) -> dict[tuple[str, str], Inventory]:
    """Sort a listing; an object listed twice counts once."""
    found: dict[tuple[str, str], Inventory] = {}
    for stored in {one.key: one for one in listed}.values():
        place = names.parse_prefix(stored.key)
        if place is not None:
            _enter(found.setdefault(place, Inventory(*place)), stored)
    return found


def _enter(inventory: Inventory, stored: Stored) -> None:
    inside = stored.key.removeprefix(names.prefix(inventory.server, inventory.database))
    owner = names.owner_of(stored.key)
    if inside.endswith(names.MANIFEST_SUFFIX):
        inventory.manifests[inside.removesuffix(names.MANIFEST_SUFFIX)] = stored
    elif owner is not None:
        inventory.parts[owner.rpartition("/")[2]].append(stored)
    elif inside.startswith("summaries/"):
        inventory.summaries.append(stored)
    elif inside.startswith("drills/"):
        inventory.drills.append(stored)
