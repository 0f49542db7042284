"""What the manifests of all copies share: what it takes to keep, list, seal and read them.

A copy is of one PostgreSQL database or of a whole Redis; the store, the catalogue, proofs, holds,
keys and retention treat both alike.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from flowforge.rules import names
from flowforge.rules.backups import (
    Copy,
    Manifest,
    Member,
    Seal,
    StoredObject,
    catalogue_entry,
    read_manifest,
)
from flowforge.rules.proofs import ProofMark
from flowforge.rules.redis_copies import RedisManifest, read_redis_manifest, redis_entry


class Named(Protocol):
    """Something with a name."""

    @property
    def name(self) -> str:
        """What it is called."""


class StoredCopy(Protocol):
    """The manifest of a copy, whatever was copied."""

    @property
    def name(self) -> str:
        """The copy's name."""

    @property
    def server(self) -> Named:
        """The server it was taken from."""

    @property
    def database(self) -> Named:
        """The database it is of; `names.WHOLE` for a Redis."""

    @property
    def data(self) -> StoredObject:
        """The object that holds it."""

    @property
    def globals_data(self) -> StoredObject | None:
        """What was copied beside it."""

    @property
    def seal(self) -> Seal | None:
        """How it is encrypted."""

    @property
    def parts(self) -> tuple[Member, ...]:
        """Its gzip members."""

    @property
    def gzip_sha256(self) -> str:
        """Digest of its gzip stream."""


def read_stored(text: bytes, database: str) -> Manifest | RedisManifest:
    """Read the manifest of a copy of a database, or of a whole Redis.

    Raises:
        Refused: It was written by a newer FlowForge, or it is not a manifest.
    """
    return read_redis_manifest(text) if database == names.WHOLE else read_manifest(text)


def entry_of(manifest: Manifest | RedisManifest, marks: Iterable[ProofMark], store: str) -> Copy:
    """Sum up a manifest and what counts of its proofs."""
    if isinstance(manifest, RedisManifest):
        return redis_entry(manifest, marks, store)
    return catalogue_entry(manifest, marks, store)
