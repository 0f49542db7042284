"""Delete copies: the manifest first, so that a copy never claims data that is gone.

Everything is decided from one whole listing; one that breaks off raises, and nothing is deleted.
What the store itself holds by a lock stays, and that is no failure.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from flowforge.engines.backup.dumping import fence
from flowforge.engines.backup.shelf import catalogue, inventory
from flowforge.engines.backup.shelf.inventory import Inventory
from flowforge.engines.backup.steps import reached
from flowforge.engines.backup.stores.store import Locked, Store, Stored
from flowforge.errors import FlowForgeError, Refused
from flowforge.rules import names, retention
from flowforge.rules.addresses import PostgresAddress

_ORPHAN_AGE = timedelta(hours=24)


@dataclass(frozen=True)
class Swept:
    """What killed runs had left."""

    keys: list[str] = field(default_factory=list)
    """Removed now."""

    orphans: int = 0
    """Objects of no copy that are still there: too young, or locked."""


@dataclass(frozen=True)
class Forgotten:
    """What was deleted, and what stayed although it might have gone."""

    gone: list[str] = field(default_factory=list)
    """Names of the copies deleted, oldest first."""

    kept: dict[str, str] = field(default_factory=dict)
    """Names of copies the rule let go and the store did not, with its reason."""

    swept: Swept = Swept()
    remarks: list[str] = field(default_factory=list)
    """What was not done, and why; for the report."""


def forget_expired(
    store: Store,
    address: PostgresAddress,
    database: str,
    policy: retention.Retention,
    *,
    now: datetime | None = None,
) -> Forgotten:
    """Delete the copies of one database that the rule lets go, and what killed runs left.

    When the rule refuses, the backup before this is no less good: the refusal is a remark.

    Args:
        store: Where the copies are.
        address: The server they were taken from; its backup lock is held while leftovers go.
        database: The database.
        policy: How long copies are kept.
        now: The time it is; by default by this machine's clock.
    """
    lock = fence.held(address, database)
    return forget_under(lock, store, address.name, database, policy, now=now)


def forget_under(
    lock: AbstractContextManager[object],
    store: Store,
    server: str,
    database: str,
    policy: retention.Retention,
    *,
    now: datetime | None = None,
) -> Forgotten:
    """The same for anything that is copied; `lock` is held while leftovers go."""
    found = inventory.take(store, server, database)
    done, remarks = Forgotten(), []
    try:
        decisions = _decide(store, found, policy, now or datetime.now(UTC))
        done = forget(store, found, retention.expired(decisions))
        remarks += [f"{name} was to go and stays: {why}" for name, why in done.kept.items()]
    except Refused as refusal:
        remarks.append(f"no copy was forgotten: {refusal}")
    swept, why_not = _sweep_alone(lock, store, server, database)
    catalogue.summarise(store, inventory.take(store, server, database))
    return dataclasses.replace(done, swept=swept, remarks=[*remarks, *why_not])


def forget(store: Store, found: Inventory, copies: Iterable[str]) -> Forgotten:
    """Delete copies. One whose deletion is interrupted is left to `sweep`.

    Args:
        store: Where they are.
        found: The listing they were chosen from.
        copies: Their names, oldest first.
    """
    reached("decide")
    done = Forgotten()
    for name in copies:
        try:
            _check_unlocked(store, found, name)
            store.delete(names.manifest_key(found.server, found.database, name))
            reached("manifest-delete")
            for part in found.parts.get(name, ()):
                store.delete(part.key)
                reached("data-delete")
            done.gone.append(name)
        except Locked as lock:
            done.kept[name] = lock.message
    return done


def sweep(store: Store, server: str, database: str) -> Swept:
    """Remove what killed runs left of one database's copies.

    Only the holder of the database's backup lock may call it. An object of no copy goes once it is
    a day old, and once the store, asked for it by name, says again that there is no manifest.
    """
    now = datetime.now(UTC)
    removed = store.sweep(names.prefix(server, database), older_than=now)
    found = inventory.take(store, server, database)
    orphans = _orphans(found)
    left = 0
    for name, part in orphans:
        young = now - part.modified_at <= _ORPHAN_AGE
        if young or store.head(names.manifest_key(server, database, name)) is not None:
            left += 1
            continue
        try:
            store.delete(part.key)
            removed.append(part.key)
        except Locked:
            left += 1
    return Swept(removed, left)


def _sweep_alone(
    lock: AbstractContextManager[object], store: Store, server: str, database: str
) -> tuple[Swept, list[str]]:
    """Sweep while no backup of the database runs; otherwise say why it was left to the next run."""
    try:
        with lock:
            return sweep(store, server, database), []
    except FlowForgeError as error:
        orphans = len(_orphans(inventory.take(store, server, database)))
        return Swept(orphans=orphans), [f"leftovers were not looked for: {error.message}"]


def _decide(
    store: Store, found: Inventory, policy: retention.Retention, now: datetime
) -> tuple[retention.Decision, ...]:
    """Judge the copies of the server that is behind the name now; those of an older one stay."""
    copies = catalogue.copies_in(store, found)
    here = [copy for copy in copies if copy.system_identifier == copies[0].system_identifier]
    return retention.choose_expired(here, policy, now)


def _check_unlocked(store: Store, found: Inventory, name: str) -> None:
    """Make sure that no part of a copy is locked that it is lost without, before one of them goes.

    Raises:
        Locked: One is, so all of them stay.
    """
    now = datetime.now(UTC)
    for part in found.parts.get(name, ()):
        is_vital = names.is_data(part.key) or names.is_wrapped_key(part.key)
        held = store.head(part.key) if is_vital else None
        if held and held.locked_until and held.locked_until > now:
            raise Locked(part.key, held.locked_until)


def _orphans(found: Inventory) -> list[tuple[str, Stored]]:
    """Objects of copies without a manifest, each with the copy's name."""
    lost = (name for name in found.parts if name not in found.manifests)
    return [(name, part) for name in lost for part in found.parts[name]]
