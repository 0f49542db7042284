"""Read a copy back: every byte, its digest, its gzip, its last line (L1).

Every member has a digest of its own and they follow each other without a gap, so together they
vouch for every byte. A copy that is broken in one place is read on to its end, so that what is
broken is named to the page of its table, and so is what is still whole.
"""

from __future__ import annotations

import hashlib
import queue
import threading
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import cast

from flowforge.engines.backup.loading import reading
from flowforge.engines.backup.seals import keys
from flowforge.engines.backup.steps import reached
from flowforge.engines.backup.stores.store import Store
from flowforge.errors import Damaged
from flowforge.rules.backups import Level, Manifest, Member, Proof, Verdict

_EXAMINERS = 2
_QUEUED_CHUNKS = 8
_READ_BYTES = 256 * 1024
_TAIL_BYTES = 512
_MOST_NAMED = 50


def read_back(store: Store, manifest: Manifest) -> Proof:
    """Read a copy whole and say whether it is what was written.

    A sealed copy that no key at hand opens is read as it is stored: that may show that it is bad,
    and never that it is good.
    """
    clock = time.monotonic()
    verdict, causes, remarks = _judge(store, manifest)
    reached("read-back")
    return Proof(
        copy_name=manifest.name,
        level=Level.READ_BACK,
        verdict=verdict,
        checked_at=datetime.now(UTC),
        seconds=round(time.monotonic() - clock, 3),
        cause=causes[0] if causes else None,
        differences=tuple(causes[1 : _MOST_NAMED + 1]),
        remarks=remarks,
        stored_bytes=manifest.data.size_bytes,
    )


def _judge(store: Store, manifest: Manifest) -> tuple[Verdict, list[str], tuple[str, ...]]:
    """The verdict on a copy, its causes, and what is to be said besides."""
    try:
        broken = examine(store, manifest)
    except keys.Sealed as closed:
        if not _is_as_stored(store, manifest):
            return "failed", [reading.damaged(manifest, "its SHA-256 is another one").message], ()
        return "inconclusive", [closed.message], ("its bytes are those that were stored",)
    except Damaged as damage:
        return "failed", [damage.message], ()
    if not broken:
        return "proven", [], ()
    return "failed", [broken[at].message for at in sorted(broken)], _whole(manifest, broken)


def examine(store: Store, manifest: Manifest) -> dict[int, Damaged]:
    """Check every member; return what is wrong with those that are broken, by their offsets.

    Raises:
        Damaged: The store does not even hold as many bytes as were written.
        Sealed: No key at hand opens the copy.
        Unavailable: The store went away.
    """
    examiners = [_Examiner(manifest) for _ in range(min(_EXAMINERS, len(manifest.parts)))]
    begun = 0
    broken: dict[int, Damaged] = {}
    try:
        for member, packed in reading.packed_members(store, manifest):
            begun += 1
            min(examiners, key=lambda examiner: examiner.waiting).take(member, packed)
    except Damaged as damage:
        if not begun:
            raise
        # The seal broke, and what comes after it cannot be read at all.
        broken = {member.offset: damage for member in manifest.parts[begun - 1 :]}
    finally:
        for examiner in examiners:
            examiner.finish()
    for examiner in examiners:
        broken = examiner.broken() | broken
    return broken


class _Examiner:
    """A thread that checks members beside another one."""

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest
        self._broken: dict[int, Damaged] = {}
        self._error: BaseException | None = None
        self._queue: queue.Queue[Member | bytes | None] = queue.Queue(_QUEUED_CHUNKS)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """How much it has still to do, in chunks."""
        return self._queue.qsize()

    def take(self, member: Member, packed: Iterable[bytes]) -> None:
        """Take a member over; returns when all its bytes were taken."""
        self._queue.put(member)
        try:
            for chunk in packed:
                self._queue.put(chunk)
        finally:
            self._queue.put(None)

    def finish(self) -> None:
        """Wait until everything taken was checked."""
        self._queue.put(None)
        self._thread.join()

    def broken(self) -> dict[int, Damaged]:
        """What is wrong with the members that are broken, by their offsets."""
        if self._error is not None:
            raise self._error
        return self._broken

    def _run(self) -> None:
        while isinstance(member := self._queue.get(), Member):
            chunks = cast(Iterator[bytes], iter(self._queue.get, None))
            try:
                if self._error is None:
                    self._check(member, chunks)
            except Damaged as damage:
                self._broken[member.offset] = damage
            except BaseException as error:  # noqa: BLE001  raised again by `broken`
                self._error = error
            for _ in chunks:  # what is left of a broken member
                pass

    def _check(self, member: Member, packed: Iterator[bytes]) -> None:
        tail = b""
        for text in reading.member_text(self._manifest, member, packed):
            tail = (tail + text[-_TAIL_BYTES:])[-_TAIL_BYTES:]
        if member == self._manifest.parts[-1]:
            reading.check_trailer(self._manifest, tail)


def _whole(manifest: Manifest, broken: dict[int, Damaged]) -> tuple[str, ...]:
    """Which tables of a broken copy can still be restored one by one."""
    if not manifest.data.members:
        return ()
    lost = [part for part in manifest.parts if part.offset in broken]
    if any(part.kind == "before-data" for part in lost):
        return ("no table can be restored: what defines them is broken",)
    bad = {part.table for part in lost}
    whole = [table.name for table in manifest.tables if table.name not in bad]
    told = f"{len(whole)} of {len(manifest.tables)} tables are whole and can be restored one by one"
    shown = ", ".join(whole[:_MOST_NAMED]) + (" ..." if len(whole) > _MOST_NAMED else "")
    return (f"{told}: {shown}" if whole else told,)


def _is_as_stored(store: Store, manifest: Manifest) -> bool:
    sha256 = hashlib.sha256()
    with store.read(manifest.data.key) as stored:
        while chunk := stored.read(_READ_BYTES):
            sha256.update(chunk)
    return sha256.hexdigest() == manifest.data.sha256
