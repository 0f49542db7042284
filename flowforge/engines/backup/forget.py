"""Delete copies: the manifest first, so that a copy never claims data that is gone."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from flowforge.engines.backup.steps import reached
from flowforge.engines.backup.store import Store
from flowforge.rules import names

_ORPHAN_AGE = timedelta(hours=24)


def forget(store: Store, server: str, database: str, copies: Iterable[str]) -> list[str]:
    """Delete copies of one database, oldest first, and return their names.

    A copy whose deletion was interrupted has no manifest any more; `sweep` removes its data.
    """
    reached("decide")
    gone = []
    for name in copies:
        store.delete(names.manifest_key(server, database, name))
        reached("manifest-delete")
        owner = names.prefix(server, database) + name
        for stored in list(store.listing(names.prefix(server, database))):
            if names.owner_of(stored.key) == owner:
                store.delete(stored.key)
                reached("data-delete")
        gone.append(name)
    return gone


def sweep(store: Store, server: str, database: str) -> list[str]:
    """Remove what killed runs left of one database's copies, and return the keys.

    Data without a manifest goes once it is a day old: a younger one may be about to be committed.
    """
    place = names.prefix(server, database)
    now = datetime.now(UTC)
    removed = store.sweep(place, older_than=now)
    listed = list(store.listing(place))
    committed = {
        stored.key.removesuffix(names.MANIFEST_SUFFIX)
        for stored in listed
        if stored.key.endswith(names.MANIFEST_SUFFIX)
    }
    for stored in listed:
        owner = names.owner_of(stored.key)
        if owner and owner not in committed and now - stored.modified_at > _ORPHAN_AGE:
            store.delete(stored.key)
            removed.append(stored.key)
    return removed
