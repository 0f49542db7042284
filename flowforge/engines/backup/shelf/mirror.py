"""Bring copies from one store to another, byte for byte, the manifest last.

The second store may be of another kind, and keeps its own time: its own retention, its own holds.
What was brought is read back there before its manifest is written, so a copy exists there exactly
when every byte of it was seen there. Killed anywhere, the next run finds what is there already.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from flowforge.engines.backup.shelf import catalogue, inventory
from flowforge.engines.backup.shelf.inventory import Inventory
from flowforge.engines.backup.steps import reached
from flowforge.engines.backup.stores.store import Store
from flowforge.errors import Damaged, FlowForgeError, Refused
from flowforge.rules import mirroring, names
from flowforge.rules.backups import Copy, StoredObject
from flowforge.rules.retention import STANDARD, Retention
from flowforge.rules.stored import StoredCopy, read_stored

MOST_COPIES = 10
_CHUNK_BYTES = 1024 * 1024


@dataclass
class Caught:
    """How far a second store has caught up with the first."""

    store: str
    """The second store's name."""

    copied: list[str] = field(default_factory=list)
    """Names of the copies brought now, newest first."""

    behind: list[str] = field(default_factory=list)
    """Names of copies it still lacks, newest first."""

    damaged: dict[str, str] = field(default_factory=dict)
    """Names of copies that a store does not hold as they were written, each with what is wrong."""

    newest_at: datetime | None = None
    """Moment of the newest snapshot there; what is younger is lost with the first store."""

    why: str | None = None
    """What kept it from catching up, if anything did."""

    def remarks(self) -> list[str]:
        """What a person should know of it, if anything."""
        found = [f"{self.store} does not hold {name}: {why}" for name, why in self.damaged.items()]
        if self.behind or self.why:
            newest = "it holds no copy"
            if self.newest_at:
                newest = f"its newest is of {self.newest_at:%Y-%m-%d %H:%M} UTC"
            reason = f" ({self.why})" if self.why else ""
            found.append(f"{self.store} is behind by {len(self.behind)} copies, {newest}{reason}")
        return found


def catch_up(
    first: Store,
    second: Store,
    server: str,
    database: str,
    *,
    policy: Retention = STANDARD,
    most: int = MOST_COPIES,
) -> Caught:
    """Bring the copies of a database that a second store lacks, newest first.

    It never raises for what a store does: a second store that is away is behind, no more.

    Args:
        first: Where the copies are.
        second: Where they shall be, too.
        server: The server they were taken from.
        database: The database.
        policy: How long copies are kept in the second store.
        most: How many to bring at most, so that a run ends.
    """
    caught = Caught(second.name)
    try:
        found = inventory.take(first, server, database)
        listed = catalogue.copies_in(first, found)
        caught.behind = [copy.name for copy in listed if not copy.failed]
        there = catalogue.list_copies(second, server, database)
        missing = mirroring.choose_missing(listed, there, policy)
        caught.behind = [copy.name for copy in missing]
        caught.newest_at = max((copy.snapshot_at for copy in there), default=None)
        _bring_all(first, second, found, missing[:most], caught)
    except FlowForgeError as error:
        caught.why = str(error)
    return caught


def _bring_all(
    first: Store, second: Store, found: Inventory, missing: Sequence[Copy], caught: Caught
) -> None:
    for copy in missing:
        try:
            bring(first, second, found, copy.name)
        except Damaged as damage:
            caught.damaged[copy.name] = damage.message
            continue
        caught.copied.append(copy.name)
        caught.behind.remove(copy.name)
        caught.newest_at = max(caught.newest_at or copy.snapshot_at, copy.snapshot_at)


def bring(first: Store, second: Store, found: Inventory, name: str) -> None:
    """Bring one copy: its data, roles, keys and good proofs, then its manifest.

    Args:
        first: Where it is.
        second: Where it shall be, too.
        found: What lies in the first store.
        name: The copy.

    Raises:
        Damaged: One of the two stores does not hold what was written.
        Unavailable: One of them does not answer.
        Refused: The second one does not take it.
    """
    text = catalogue.read_small(first, found.manifests[name].key)
    manifest = read_stored(text, found.database)
    _check_sealed(second, manifest)
    for written in filter(None, (manifest.data, manifest.globals_data)):
        _bring_large(first, second, written)
        reached("mirror-data")
    for key in (*found.keys_of(name, "keys"), *_good_proofs(found, name)):
        if second.head(key) is None:
            second.put_new(key, catalogue.read_small(first, key))
    reached("mirror-beside")
    second.put_new(_manifest_key(manifest), text)
    reached("mirror-manifest")


def _check_sealed(second: Store, manifest: StoredCopy) -> None:
    """A store that seals what it keeps never gets what is open."""
    if second.recipients and manifest.seal is None:
        raise Refused(
            f"{manifest.name} is not sealed, and {second.name} keeps only sealed copies.",
            hint="Give the store it comes from recipients, too (`store add --recipient`): copies "
            "taken from then on are sealed in both.",
        )


def _good_proofs(found: Inventory, name: str) -> list[str]:
    """Proofs of what the bytes hold; that one store damaged them says nothing of another."""
    marks = {key: names.read_proof_key(key) for key in found.keys_of(name, "proofs")}
    return [key for key, mark in marks.items() if mark and mark.verdict == "proven"]


def _bring_large(first: Store, second: Store, written: StoredObject) -> None:
    """Bring an object and read it back; one that a killed run brought is only read."""
    if second.head(written.key) is None:
        with second.upload(written.key, expected_bytes=written.size_bytes) as upload:
            sha256 = hashlib.sha256()
            with first.read(written.key) as file:
                while chunk := file.read(_CHUNK_BYTES):
                    sha256.update(chunk)
                    upload.write(chunk)
            _check(first, written, sha256.hexdigest())
            upload.commit()
    _check(second, written, _digest(second, written.key))


def _digest(store: Store, key: str) -> str:
    sha256 = hashlib.sha256()
    with store.read(key) as file:
        while chunk := file.read(_CHUNK_BYTES):
            sha256.update(chunk)
    return sha256.hexdigest()


def _check(store: Store, written: StoredObject, sha256: str) -> None:
    if sha256 != written.sha256:
        raise Damaged(
            f"The store {store.name} does not hold {written.key} as it was written.",
            hint="Verify that copy in the first store. In the second one nothing names the object: "
            "it is swept a day after it was written, then the copy is brought again.",
        )


def _manifest_key(manifest: StoredCopy) -> str:
    return names.manifest_key(manifest.server.name, manifest.database.name, manifest.name)
