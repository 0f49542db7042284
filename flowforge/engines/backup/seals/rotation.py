"""Rotate the recovery keys of copies: the small key of each is wrapped again, its data stays.

Nothing is overwritten, so every wrap there ever was still opens its copy. A retired secret key may
be thrown away once no copy needs it; one that fell into wrong hands keeps opening what it opened.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from flowforge.engines.backup.seals import keys
from flowforge.engines.backup.shelf import catalogue, inventory
from flowforge.engines.backup.shelf.inventory import Inventory
from flowforge.engines.backup.stores.store import Store
from flowforge.errors import Refused
from flowforge.rules import names, recipients
from flowforge.rules.recipients import Recipient
from flowforge.rules.stored import StoredCopy, read_stored
from flowforge.rules.values import Value

_WRAP = ".age"
_SAID = ".json"


class Wrapped(Value):
    """Whom a later wrap of a copy's key is for; the first one is described by the manifest."""

    recipients: tuple[str, ...]
    wrapped_at: datetime


@dataclass
class Rotated:
    """What one rotation did to the sealed copies of a database."""

    wrapped: list[str] = field(default_factory=list)
    """Names of copies whose key was wrapped to today's recipients now."""

    current: list[str] = field(default_factory=list)
    """Names of copies that all of today's recipients opened before."""

    closed: dict[str, str] = field(default_factory=dict)
    """Names of copies whose key could not be opened, each with the reason."""


def rotate(
    store: Store,
    server: str,
    database: str,
    *,
    on_progress: Callable[[int, int], None] = lambda *_: None,
) -> Rotated:
    """Wrap the keys of all sealed copies of a database to the store's recipients of today.

    Args:
        store: Where they are; it holds the secret keys at hand.
        server: The server they were taken from.
        database: The database.
        on_progress: Told how many copies are done, and how many there are.

    Raises:
        Refused: The store has fewer than two recipients.
        Damaged: Beside a copy lies the key of another one.
    """
    keys.check_recipients(store.recipients)
    done = Rotated()
    found = inventory.take(store, server, database)
    sealed = _sealed(store, found)
    for number, manifest in enumerate(sealed, 1):
        try:
            was_wrapped = rewrap(store, manifest, found)
            (done.wrapped if was_wrapped else done.current).append(manifest.name)
        except keys.Sealed as closed:
            done.closed[manifest.name] = closed.message
        on_progress(number, len(sealed))
    return done


def rewrap(store: Store, manifest: StoredCopy, found: Inventory | None = None) -> bool:
    """Wrap a copy's key to the store's recipients of today; tell whether that was needed.

    Killed at any point it leaves the copy as it was; run again it does the rest.

    Raises:
        Sealed: No secret key at hand opens the copy's key.
        Damaged: Beside the copy lies the key of another one.
    """
    server, database = manifest.server.name, manifest.database.name
    found = found or inventory.take(store, server, database)
    if recipients.is_current(_opened_by(store, manifest, found), store.recipients):
        return False
    identity = keys.find_key(store, manifest)
    number = max(map(_number, found.keys_of(manifest.name, "keys")), default=0) + 1
    said = Wrapped(recipients=store.recipients, wrapped_at=datetime.now(UTC))
    place = names.keys_prefix(server, database, manifest.name)
    # First whom it is for, which says nothing while the wrap itself is missing.
    store.put_new(f"{place}{number:04}{_SAID}", said.model_dump_json().encode())
    keys.keep_key(store, server, database, manifest.name, identity, number=number)
    return True


def report(store: Store) -> tuple[Recipient, ...]:
    """Every public key that copies in a store are sealed to, and what rests on it."""
    opened: dict[str, Iterable[str]] = {}
    for place, found in inventory.take_all(store).items():
        for manifest in _sealed(store, found):
            opened["/".join((*place, manifest.name))] = _opened_by(store, manifest, found)
    return recipients.weigh(opened, store.recipients)


def _sealed(store: Store, found: Inventory) -> list[StoredCopy]:
    """The manifests of sealed copies, newest first; a copy without a key beside it has no seal."""
    named = sorted((n for n in found.manifests if found.keys_of(n, "keys")), reverse=True)
    texts = catalogue.read_many(store, (found.manifests[name].key for name in named))
    manifests = (read_stored(text, found.database) for text in texts)
    return [manifest for manifest in manifests if manifest.seal]


def _opened_by(store: Store, manifest: StoredCopy, found: Inventory) -> set[str]:
    """Whom the key of a copy was wrapped to, by its manifest and by every later wrap."""
    if manifest.seal is None:
        raise Refused(
            f"{manifest.name} is not sealed.", hint="It has no key, so there is nothing to wrap."
        )
    beside = set(found.keys_of(manifest.name, "keys"))
    later = [k for k in beside if k.endswith(_SAID) and k.removesuffix(_SAID) + _WRAP in beside]
    said = map(Wrapped.model_validate_json, catalogue.read_many(store, later))
    return set(manifest.seal.recipients).union(*(one.recipients for one in said))


def _number(key: str) -> int:
    return int(key.rpartition("/")[2].partition(".")[0])
