"""Text becomes gzip members, and members become the one object of a copy.

`isal` writes gzip that plain `gunzip` reads, at several times the speed of zlib, and lets go of the
interpreter while it works. Every member is a gzip file of its own; gzip files one after the other
are one gzip file, so the object is read by any `gunzip`, and each member can be read alone.
"""

from __future__ import annotations

import contextlib
import hashlib
import queue
import threading
from collections.abc import Iterable
from typing import Any, Literal

from isal import isal_zlib

from flowforge.engines.backup.steps import reached
from flowforge.engines.backup.stores.store import Upload
from flowforge.errors import Unavailable
from flowforge.rules.backups import Member

GZIP_LEVEL = 2  # as small as zlib's level 1, at five times its speed
GZIP_WINDOW = 31  # a gzip header and trailer
HELD_BYTES = 8 * 1024 * 1024
"""As much of a member is held back before it takes its turn in the object while it is written."""

_QUEUED_CHUNKS = 8

Kind = Literal["before-data", "rows", "large-objects", "sequences", "after-data", "trailer"]


class Assembly:
    """The object being put together; members of several threads take turns in it."""

    def __init__(self, upload: Upload) -> None:
        self.members: list[Member] = []
        self.size_bytes = 0
        self.raw_bytes = 0
        self.turn = threading.Lock()
        self._upload = upload
        self._sha256 = hashlib.sha256()
        self._given_up = False

    @property
    def sha256(self) -> str:
        """Digest of everything sent so far."""
        return self._sha256.hexdigest()

    def give_up(self) -> None:
        """Let nobody send anything more."""
        self._given_up = True

    def send(self, packed: bytes) -> None:
        """Send on; only whoever has the turn may.

        Raises:
            Unavailable: The copy was given up meanwhile.
        """
        if self._given_up:
            raise stopped()
        if packed:
            self._sha256.update(packed)
            self.size_bytes += len(packed)
            self._upload.write(packed)

    def enter(self, member: Member) -> None:
        """Note a finished member; only whoever has the turn may."""
        self.members.append(member)
        self.raw_bytes += member.raw_bytes
        reached(f"member-{len(self.members)}")


def stopped() -> Unavailable:
    """What ends the others when one of several failed."""
    return Unavailable("The backup was stopped.", hint="Read why above; run it again.")


class MemberWriter:
    """Packs one member: held until it is finished, or sent on while it is written when it is large.

    Args:
        assembly: Where it goes.
        kind: What it holds.
        facts: Further fields of its `Member`.
    """

    def __init__(self, assembly: Assembly, kind: Kind, **facts: Any) -> None:
        self.packed_bytes = 0
        self.raw_bytes = 0
        self._assembly, self._kind, self._facts = assembly, kind, facts
        self._packer = isal_zlib.compressobj(GZIP_LEVEL, isal_zlib.DEFLATED, GZIP_WINDOW)
        self._sha256 = hashlib.sha256()
        self._held: list[bytes] = []
        self._offset: int | None = None

    def write(self, text: bytes) -> None:
        """Add text."""
        self.raw_bytes += len(text)
        self._take(self._packer.compress(text))

    def finish(self, **facts: Any) -> Member:
        """Put the member into the object and describe it."""
        self._take(self._packer.flush())
        self._take_turn()
        assert self._offset is not None
        member = Member(
            kind=self._kind,
            offset=self._offset,
            size_bytes=self.packed_bytes,
            raw_bytes=self.raw_bytes,
            sha256=self._sha256.hexdigest(),
            **self._facts,
            **facts,
        )
        self._assembly.enter(member)
        self._release()
        return member

    def abandon(self) -> None:
        """Give the turn back after a failure; what was sent is worthless now."""
        if self._offset is not None:
            self._release()

    def _take(self, packed: bytes) -> None:
        if not packed:
            return
        self._sha256.update(packed)
        self.packed_bytes += len(packed)
        if self._offset is not None:
            self._assembly.send(packed)
            return
        self._held.append(packed)
        if self.packed_bytes > HELD_BYTES:
            self._take_turn()

    def _take_turn(self) -> None:
        if self._offset is None:
            self._assembly.turn.acquire()
            self._offset = self._assembly.size_bytes
        for packed in self._held:
            self._assembly.send(packed)
        self._held.clear()

    def _release(self) -> None:
        self._offset = None
        self._assembly.turn.release()


def add_member(assembly: Assembly, kind: Kind, texts: Iterable[bytes], **facts: Any) -> Member:
    """Pack texts into a member of their own."""
    writer = MemberWriter(assembly, kind, **facts)
    try:
        for text in texts:
            writer.write(text)
        return writer.finish()
    except BaseException:
        writer.abandon()
        raise


class Packer:
    """Packs one long text into a single member, on a thread of its own.

    Whoever makes the text never waits for the compressor, so both use a core.
    """

    def __init__(self, assembly: Assembly) -> None:
        self._assembly = assembly
        self._chunks: queue.Queue[bytes | None] = queue.Queue(_QUEUED_CHUNKS)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def put(self, chunk: bytes) -> None:
        """Take a chunk; raises what went wrong with an earlier one."""
        if self._error is not None:
            raise self._error
        self._chunks.put(chunk)

    def close(self) -> None:
        """Wait until everything taken has been uploaded."""
        self._chunks.put(None)
        self._thread.join()
        if self._error is not None:
            raise self._error

    def abandon(self) -> None:
        """End the thread without caring for what was taken."""
        self._error = self._error or Unavailable("The upload was given up.", hint="Run it again.")
        while self._thread.is_alive():
            with contextlib.suppress(queue.Full):
                self._chunks.put_nowait(None)
            self._thread.join(timeout=0.05)

    def _run(self) -> None:
        packer = isal_zlib.compressobj(GZIP_LEVEL, isal_zlib.DEFLATED, GZIP_WINDOW)
        try:
            while (chunk := self._chunks.get()) is not None and self._error is None:
                self._assembly.send(packer.compress(chunk))
            if self._error is None:
                self._assembly.send(packer.flush())
        except BaseException as error:  # noqa: BLE001  raised again by the next `put` or `close`
            self._error = error
            while self._chunks.get() is not None:
                pass  # the maker may be waiting for room; let it come to its next `put`
