"""What a store says of its copies. The store is the truth; the ledger only remembers it.

A listing is small work (names and sizes); manifests and proofs are read one by one, each of a few
kilobytes. A copy exists when its manifest does.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from flowforge.engines.backup.store import Store
from flowforge.errors import Refused
from flowforge.rules import names
from flowforge.rules.backups import Copy, Manifest, Proof, catalogue_entry, read_manifest

_MAX_SMALL_BYTES = 64 * 1024 * 1024


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


def load_manifest(store: Store, server: str, database: str, name: str) -> Manifest:
    """Read the manifest of one copy.

    Raises:
        Refused: There is no such copy, or it was written by a newer FlowForge.
    """
    key = names.manifest_key(server, database, names.check_copy_name(name))
    if store.head(key) is None:
        raise Refused(
            f"The store {store.name} has no copy {name} of {database!r} on {server}.",
            hint=f"`flowforge backup list {server}` shows the copies there are.",
        )
    return read_manifest(read_small(store, key))


def load_proofs(store: Store, server: str, database: str, name: str) -> list[Proof]:
    """Read the proofs of one copy, oldest first."""
    found = store.listing(names.proofs_prefix(server, database, name))
    return [Proof.model_validate_json(read_small(store, stored.key)) for stored in found]


def add_proof(store: Store, manifest: Manifest, proof: Proof) -> None:
    """Put a proof beside its copy."""
    key = names.proof_key(
        manifest.server.name, manifest.database.name, manifest.name, proof.checked_at, proof.level
    )
    store.put_new(key, proof.to_json())


def list_copies(store: Store, server: str, database: str) -> list[Copy]:
    """Every copy of one database with its proofs summed up, newest first."""
    copies, _ = _read(store, (s.key for s in store.listing(names.prefix(server, database))))
    return copies


def read_catalogue(store: Store) -> tuple[list[Copy], list[tuple[Copy, Proof]]]:
    """Every copy in a store and every proof beside it: what a lost ledger is made again from."""
    return _read(store, (s.key for s in store.listing("postgres/")))


def newest_copy(copies: Iterable[Copy], *, proven: bool = False) -> Copy | None:
    """The newest usable copy, or the newest that was read back at least."""
    usable = [copy for copy in copies if not copy.failed and (not proven or copy.level >= 1)]
    return max(usable, key=lambda copy: copy.snapshot_at, default=None)


def _read(store: Store, keys: Iterable[str]) -> tuple[list[Copy], list[tuple[Copy, Proof]]]:
    manifests: list[str] = []
    proofs: dict[str, list[str]] = defaultdict(list)
    for key in keys:
        if key.endswith(names.MANIFEST_SUFFIX):
            manifests.append(key)
        elif "/proofs/" in key:
            place, _, rest = key.partition("/proofs/")
            proofs[f"{place}/{rest.partition('/')[0]}"].append(key)
    copies, proven = [], []
    for key in manifests:
        manifest = read_manifest(read_small(store, key))
        texts = [read_small(store, p) for p in proofs[key.removesuffix(names.MANIFEST_SUFFIX)]]
        found = [Proof.model_validate_json(text) for text in texts]
        copy = catalogue_entry(manifest, found, store.name)
        copies.append(copy)
        proven += [(copy, proof) for proof in found]
    copies.sort(key=lambda copy: copy.snapshot_at, reverse=True)
    return copies, proven
