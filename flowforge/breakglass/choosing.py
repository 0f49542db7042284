"""Which copy is meant, when all there is to ask is the store."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from datetime import datetime

from flowforge.engines.backup.shelf import catalogue
from flowforge.engines.backup.stores.store import Store
from flowforge.errors import Refused
from flowforge.rules import names
from flowforge.rules.backups import Copy, Level

_LISTED = "`list` shows what the store holds: check --store, --server and --database."
_UNPROVEN = (
    "Give --copy latest: a restore compares it before it goes live. Or prove one first: "
    "`verify --restore`."
)
LATEST = "latest"
PROVEN = "latest-proven"


def find_copies(store: Store, server: str | None, database: str | None) -> list[Copy]:
    """Every copy of a store, newest first, of one server or database when they are named."""
    copies, _ = catalogue.read_catalogue(store)
    return [
        copy
        for copy in copies
        if server in (None, copy.server) and database in (None, copy.database)
    ]


def choose(copies: Sequence[Copy], wanted: str) -> Copy:
    """The copy of a name, the newest usable one (`latest`), or the newest that was compared.

    Raises:
        Refused: There is none, or copies of several databases are meant.
    """
    databases = sorted({(copy.server, copy.database) for copy in copies})
    if len(databases) > 1:
        shown = ", ".join(
            f"--server {server} --database {shlex.quote(name)}" for server, name in databases
        )
        raise Refused("The store holds copies of several databases.", hint=f"Say which: {shown}.")
    if wanted == PROVEN:
        usable = [c for c in copies if not c.failed and c.level >= Level.COMPARED]
        none = "No usable copy was ever compared with its snapshot (L3)."
        return _newest(usable, none, hint=_UNPROVEN)
    if wanted == LATEST:
        none = "The store has no usable copy of that."
        return _newest([c for c in copies if not c.failed], none, hint=_LISTED)
    name = names.check_copy_name(wanted)
    return _newest([c for c in copies if c.name == name], f"There is no copy {name}.", hint=_LISTED)


def newer_than(copies: Iterable[Copy], chosen: Copy) -> Copy | None:
    """The newest usable copy, when it was taken after the chosen one."""
    newer = [c for c in copies if not c.failed and c.snapshot_at > chosen.snapshot_at]
    return max(newer, key=lambda copy: copy.snapshot_at, default=None)


def newest_commit(store: Store, server: str, database: str) -> datetime | None:
    """When the newest copy of a database was taken, read from the names of manifests alone."""
    place = names.prefix(server, database)
    found = [
        names.copy_time(stored.key.removeprefix(place).removesuffix(names.MANIFEST_SUFFIX))
        for stored in store.listing(place)
        if stored.key.endswith(names.MANIFEST_SUFFIX) and "/" not in stored.key.removeprefix(place)
    ]
    return max(found, default=None)


def _newest(copies: Iterable[Copy], none: str, *, hint: str) -> Copy:
    found = max(copies, key=lambda copy: copy.snapshot_at, default=None)
    if found is None:
        raise Refused(none, hint=hint)
    return found
