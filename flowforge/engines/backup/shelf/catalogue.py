"""What a store says of its copies. The store is the truth; the ledger only remembers it.

A copy exists when its manifest does, and manifests never change. So a listing reads only manifests
that no summary covers yet, several at a time; what counts of a proof is in its key. A summary is a
convenience: one that is gone, old or broken costs time, and nothing else.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

from pydantic import ValidationError

from flowforge.engines.backup.shelf import inventory
from flowforge.engines.backup.shelf.inventory import Inventory
from flowforge.engines.backup.stores.store import Locked, Store
from flowforge.errors import Damaged, Refused
from flowforge.rules import names, shrinking
from flowforge.rules.backups import Copy, Manifest, read_manifest
from flowforge.rules.proofs import Proof, ProofMark, standing_of
from flowforge.rules.stored import StoredCopy, entry_of, read_stored
from flowforge.rules.values import Value

_MAX_SMALL_BYTES = 64 * 1024 * 1024
_LANES = 32  # one waits for a bucket far away: 10,000 manifests at 30 ms each are 10 s then
_SUMMARISE_FROM = 64


class Summarised(Value):
    """A copy as its manifest says, and the size of that manifest."""

    manifest_bytes: int
    copy_: Copy


class Summary(Value):
    """The copies of one database at one time."""

    fields: tuple[str, ...]
    """What was known of a copy then; a summary that knows less is of no use."""

    copies: tuple[Summarised, ...]


def read_small(store: Store, key: str) -> bytes:
    """The content of a manifest or a proof.

    Raises:
        Damaged: It is not there.
        Refused: It is far larger than anything FlowForge writes.
    """
    with store.read(key) as file:
        parts = []
        size = 0
        while part := file.read(1024 * 1024):
            size += len(part)
            if size > _MAX_SMALL_BYTES:
                raise Refused(f"{key} is too large to be ours.", hint="Look at the store.")
            parts.append(part)
    return b"".join(parts)


def read_many(store: Store, keys: Iterable[str]) -> list[bytes]:
    """The contents of several, in their order; a store that is far away is asked in parallel."""
    with ThreadPoolExecutor(_LANES) as lanes:
        return list(lanes.map(lambda key: read_small(store, key), keys))


def load_manifest(store: Store, server: str, database: str, name: str) -> Manifest:
    """Read the manifest of one copy of a PostgreSQL database.

    Raises:
        Refused: There is no such copy, or it was written by a newer FlowForge.
    """
    return read_manifest(read_text(store, server, database, name))


def read_text(store: Store, server: str, database: str, name: str) -> bytes:
    """The manifest of one copy, as it is stored.

    Raises:
        Refused: There is no such copy.
    """
    key = names.manifest_key(server, database, names.check_copy_name(name))
    if store.head(key) is None:
        raise Refused(
            f"The store {store.name} has no copy {name} of {database!r} on {server}.",
            hint=f"`flowforge backup list {server}` shows the copies there are.",
        )
    return read_small(store, key)


def load_proofs(store: Store, server: str, database: str, name: str) -> list[Proof]:
    """Read the proofs of one copy, oldest first."""
    found = store.listing(names.proofs_prefix(server, database, name))
    return [Proof.model_validate_json(text) for text in read_many(store, (s.key for s in found))]


def add_proof(store: Store, manifest: StoredCopy, proof: Proof) -> None:
    """Put a proof beside its copy."""
    server, database = manifest.server.name, manifest.database.name
    key = names.proof_key(server, database, manifest.name, proof.mark)
    store.put_new(key, proof.to_json())


def list_copies(store: Store, server: str, database: str) -> list[Copy]:
    """Every copy of one database with its proofs summed up, newest first."""
    return copies_in(store, inventory.take(store, server, database))


def copies_in(store: Store, found: Inventory) -> list[Copy]:
    """The copies of an inventory with their proofs and holds summed up, newest first."""
    held = found.marked("holds")
    copies = []
    for entry in _entries(store, found):
        standing = standing_of(_marks(store, found.keys_of(entry.name, "proofs")))
        update = {
            "level": standing.level,
            "proven_at": standing.proven_at,
            "failed": standing.failed,
            "held": entry.name in held,
            "store": store.name,
        }
        copies.append(entry.model_copy(update=update))
    copies.sort(key=lambda copy: copy.snapshot_at, reverse=True)
    return shrinking.with_falls(copies, accepted=found.marked("accepted"))


def read_catalogue(store: Store) -> tuple[list[Copy], list[tuple[Copy, Proof]]]:
    """Every copy in a store and every proof beside it: what a lost ledger is made again from."""
    copies: list[Copy] = []
    proven: list[tuple[Copy, Proof]] = []
    for found in inventory.take_all(store).values():
        of_one = copies_in(store, found)
        pairs = [(copy, key) for copy in of_one for key in found.keys_of(copy.name, "proofs")]
        texts = read_many(store, (key for _, key in pairs))
        copies += of_one
        proven += [
            (copy, Proof.model_validate_json(text))
            for (copy, _), text in zip(pairs, texts, strict=True)
        ]
    copies.sort(key=lambda copy: copy.snapshot_at, reverse=True)
    return copies, proven


def newest_copy(copies: Iterable[Copy], *, proven: bool = False) -> Copy | None:
    """The newest usable copy, or the newest that was read back at least."""
    usable = [copy for copy in copies if not copy.failed and (not proven or copy.level >= 1)]
    return max(usable, key=lambda copy: copy.snapshot_at, default=None)


def summarise(store: Store, found: Inventory) -> bool:
    """Write a summary when many manifests are covered by none, drop older ones; whether it did."""
    known = _summarised(store, found)
    missing = found.manifests.keys() - known.keys()
    if len(missing) < _SUMMARISE_FROM:
        return False
    entries = tuple(
        Summarised(manifest_bytes=found.manifests[entry.name].size_bytes, copy_=entry)
        for entry in _entries(store, found)
    )
    summary = Summary(fields=_fields(), copies=entries)
    place = names.summaries_prefix(found.server, found.database)
    key = f"{place}{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}.json"
    store.put_new(key, summary.model_dump_json().encode())
    for old in found.summaries:
        with contextlib.suppress(Locked):
            store.delete(old.key)
    return True


def _entries(store: Store, found: Inventory) -> list[Copy]:
    """Each copy as its manifest says, from the newest summary or from the manifest itself."""
    known = _summarised(store, found)
    unread = [name for name in found.manifests if name not in known]
    texts = read_many(store, (found.manifests[name].key for name in unread))
    read = (entry_of(read_stored(text, found.database), (), store.name) for text in texts)
    return [*known.values(), *read]


def _summarised(store: Store, found: Inventory) -> dict[str, Copy]:
    if not found.summaries:
        return {}
    try:
        text = read_small(store, found.summaries[-1].key)
        summary = Summary.model_validate_json(text)
    except (Damaged, ValidationError):
        return {}  # replaced since it was listed, or of another version: the manifests say it too
    if summary.fields != _fields():
        return {}
    sizes = {name: stored.size_bytes for name, stored in found.manifests.items()}
    return {
        one.copy_.name: one.copy_
        for one in summary.copies
        if sizes.get(one.copy_.name) == one.manifest_bytes
    }


def _fields() -> tuple[str, ...]:
    return tuple(sorted(Copy.model_fields))


def _marks(store: Store, keys: Iterable[str]) -> list[ProofMark]:
    marks = []
    for key in keys:
        said = names.read_proof_key(key)
        if said is None:  # written before its verdict was part of its name
            said = Proof.model_validate_json(read_small(store, key)).mark
        marks.append(said)
    return marks
