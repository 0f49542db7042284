"""What a store of copies can do, whatever it is made of.

Seven verbs, no more: an object appears whole or not at all, is never overwritten, can be read in
parts, listed, and deleted. What was begun and never finished can be swept.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from pydantic import SecretStr

from flowforge.errors import Refused
from flowforge.rules.addresses import FolderAddress, StoreAddress

FOREVER = datetime.max.replace(tzinfo=UTC)
"""The end of a legal hold, which has none."""


@dataclass(frozen=True)
class Stored:
    """One object as the store describes it."""

    key: str
    size_bytes: int
    modified_at: datetime
    locked_until: datetime | None = None
    """Until when the store itself lets nobody delete it; `head` knows this, a listing does not."""


class Locked(Refused):
    """An object that the store itself lets nobody delete yet."""

    def __init__(self, key: str, until: datetime) -> None:
        shown = "by a legal hold" if until == FOREVER else f"until {until:%Y-%m-%d %H:%M} UTC"
        super().__init__(
            f"{key} is locked {shown}.", hint="Nothing to do: it stays until the lock ends."
        )
        self.until = until


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
    recipients: tuple[str, ...]
    """age public keys every copy kept here is sealed to."""

    keys: tuple[SecretStr, ...]
    """age secret keys at hand to open sealed copies with."""

    def upload(self, key: str, *, expected_bytes: int = 0) -> AbstractContextManager[Upload]:
        """Begin an object. Leaving the block without `commit` leaves nothing behind.

        Args:
            key: Where it will be.
            expected_bytes: How large it may become, for stores that cut objects into parts.
        """

    def put_new(self, key: str, content: bytes) -> None:
        """Store a small object in one step.

        Raises:
            Refused: An object of that key exists already.
        """

    def read(
        self, key: str, offset: int = 0, length: int | None = None
    ) -> AbstractContextManager[Readable]:
        """Open an object for reading `length` bytes from `offset` on, or all that follows.

        Raises:
            Damaged: There is no such object.
        """

    def head(self, key: str) -> Stored | None:
        """Describe an object, or `None` when there is none."""

    def listing(self, prefix: str) -> Iterator[Stored]:
        """Every object whose key begins with `prefix`, in the order of their keys."""

    def delete(self, key: str) -> None:
        """Remove an object; one that is not there is removed already.

        Raises:
            Locked: The store holds it until a date.
        """

    def sweep(self, prefix: str, older_than: datetime) -> list[str]:
        """Remove uploads below `prefix` that began before `older_than` and were never committed.

        One that its process still works on stays, whatever its age. Where that cannot be known, as
        in a bucket, an upload that anything was added to within a day counts as worked on.
        """


def open_store(address: StoreAddress) -> Store:
    """Open the store at an address.

    Raises:
        Refused: It is not a place FlowForge can keep copies in.
    """
    if isinstance(address, FolderAddress):
        from flowforge.engines.backup.stores.folder import FolderStore

        return FolderStore(
            address.name, address.folder, recipients=address.recipients, keys=address.keys
        )
    from flowforge.engines.backup.stores.s3 import (
        S3Store,  # botocore is large; a folder does without
    )

    return S3Store(address)
