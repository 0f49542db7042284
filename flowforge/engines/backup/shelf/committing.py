"""How a copy of anything comes to exist: under a name nobody has, by the write of its manifest."""

from __future__ import annotations

from datetime import datetime, timedelta

from flowforge.engines.backup.steps import reached
from flowforge.engines.backup.stores.store import Store
from flowforge.errors import Damaged
from flowforge.rules import names
from flowforge.rules.backups import Manifest
from flowforge.rules.redis_copies import RedisManifest


def free_name(store: Store, server: str, database: str, at: datetime) -> str:
    """The name of a snapshot's second, or of the next one that is free.

    Args:
        store: Where the copy goes.
        server: What it is of.
        database: What it is of; `names.WHOLE` for a Redis.
        at: When the snapshot was taken.
    """
    while True:
        name = names.copy_name(at)
        taken = [names.manifest_key(server, database, name)]
        taken += [names.data_key(server, database, name, sealed=sealed) for sealed in (False, True)]
        if not any(store.head(key) for key in taken):
            return name
        at += timedelta(seconds=1)


def commit(store: Store, manifest: Manifest | RedisManifest) -> None:
    """Check what the store holds, then make the copy exist by one write.

    Raises:
        Damaged: The store holds something else; the copy does not exist.
    """
    held = store.head(manifest.data.key)
    if held is None or held.size_bytes != manifest.data.size_bytes:
        raise Damaged(
            f"The store {store.name} does not hold what was sent for {manifest.name}.",
            hint="Check the store, then run the backup again. The copy does not exist.",
        )
    reached("head")
    key = names.manifest_key(manifest.server.name, manifest.database.name, manifest.name)
    store.put_new(key, manifest.to_json())
    reached("manifest")
