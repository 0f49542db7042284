"""What a store of copies can do, whatever it is made of.

Seven verbs, no more: an object appears whole or not at all, is never overwritten, can be read in
parts, listed, and deleted. What was begun and never finished can be swept.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from flowforge.rules.addresses import StoreAddress


@dataclass(frozen=True)
class Stored:
    """One object as the store describes it."""

    key: str
    size_bytes: int
    modified_at: datetime


class Upload(Protocol):
    """An object on its way into the store."""

    def write(self, chunk: bytes) -> None:
        """Send on.

        Raises:
            Refused: The store is full or does not allow it.
            Unavailable: The store does not answer.
        """

    def commit(self) -> None:
        """Make the object appear; only now does anybody see it.

        Raises:
            Refused: An object of that key exists already.
        """


class Readable(Protocol):
    """An object being read."""

    def read(self, size: int, /) -> bytes | None:
        """At most `size` bytes; nothing at the end."""


class Store(Protocol):
    """A place that keeps objects by key."""

    name: str

    def upload(self, key: str) -> AbstractContextManager[Upload]:
        """Begin an object. Leaving the block without `commit` leaves nothing behind."""

    def put_new(self, key: str, content: bytes) -> None:
        """Store a small object in one step.

        Raises:
            Refused: An object of that key exists already.
        """

    def read(self, key: str, offset: int = 0) -> AbstractContextManager[Readable]:
        """Open an object for reading from `offset` bytes on.

        Raises:
            Damaged: There is no such object.
        """

    def head(self, key: str) -> Stored | None:
        """Describe an object, or `None` when there is none."""

    def listing(self, prefix: str) -> Iterator[Stored]:
        """Every object whose key begins with `prefix`, in the order of their keys."""

    def delete(self, key: str) -> None:
        """Remove an object; one that is not there is removed already."""

    def sweep(self, prefix: str, older_than: datetime) -> list[str]:
        """Remove uploads below `prefix` that began before `older_than` and were never committed."""


def open_store(address: StoreAddress) -> Store:
    """Open the store at an address.

    Raises:
        Refused: It is not a place FlowForge can keep copies in.
    """
    from flowforge.engines.backup.folder import FolderStore

    return FolderStore(address.name, address.folder)
