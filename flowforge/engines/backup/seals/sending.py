"""An object on its way into a store: gzip members, sealed on the way when the store wants that."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from pyrage.x25519 import Identity

from flowforge.engines.backup.dumping.packing import Assembly
from flowforge.engines.backup.seals import keys
from flowforge.engines.backup.seals.sealing import SealingUpload
from flowforge.engines.backup.stores.store import Store, Upload
from flowforge.rules.backups import Seal


@dataclass(frozen=True)
class Sent:
    """An object that has been sent whole, but is not committed yet."""

    assembly: Assembly
    size_bytes: int
    """Of what the store holds."""

    sha256: str
    """Of what the store holds."""


class Sending:
    """What an engine writes into, and what became of it."""

    def __init__(self, upload: Upload, identity: Identity | None) -> None:
        self._seal = SealingUpload(upload, identity) if identity else None
        self.assembly = Assembly(self._seal or upload)

    def finish(self) -> Sent:
        """Send the end; nothing may be written afterwards."""
        if self._seal is None:
            return Sent(self.assembly, self.assembly.size_bytes, self.assembly.sha256)
        self._seal.close()
        return Sent(self.assembly, self._seal.size_bytes, self._seal.sha256)

    def abandon(self) -> None:
        """End without caring for what was sent."""
        if self._seal is not None:
            self._seal.abandon()


@contextlib.contextmanager
def send(upload: Upload, identity: Identity | None) -> Iterator[Sending]:
    """Send an object into an upload, sealed to a key when there is one."""
    sending = Sending(upload, identity)
    try:
        yield sending
    except BaseException:
        sending.abandon()
        raise


def describe_seal(store: Store, identity: Identity | None, sent: Sent) -> Seal | None:
    """What a manifest says of the seal of its data."""
    if identity is None:
        return None
    return keys.describe(identity, store.recipients, sent.assembly.size_bytes, sent.assembly.sha256)
