"""Read a copy: its text, or its members one by one, checked as they go by.

Every member has a digest of its own and they follow each other without a gap, so together they
vouch for every byte.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable, Iterator
from typing import cast

from isal import igzip_lib, isal_zlib

from flowforge.engines.backup.dumping.packing import GZIP_WINDOW
from flowforge.engines.backup.seals import keys, sealing
from flowforge.engines.backup.stores.store import Readable, Store
from flowforge.errors import Damaged
from flowforge.rules.backups import Member
from flowforge.rules.stored import StoredCopy

# The library types its exception as an instance of one.
BrokenGzip = cast(type[Exception], igzip_lib.error)
_READ_BYTES = 1024 * 1024
_TEXT_BYTES = 1024 * 1024
_HELD_BYTES = 16 * 1024 * 1024


def text_of(store: Store, manifest: StoredCopy) -> Iterator[bytes]:
    """The text of a copy, chunk by chunk, checked as it goes by.

    Raises:
        Damaged: The object is not the one the manifest was written for. What was yielded before is
            not to be trusted.
    """
    tail = b""
    for member, packed in packed_members(store, manifest):
        for text in member_text(manifest, member, packed):
            tail = (tail + text)[-512:]
            yield text
    check_trailer(manifest, tail)


def packed_members(store: Store, manifest: StoredCopy) -> Iterator[tuple[Member, Iterator[bytes]]]:
    """The members of a copy in their order, each with its packed bytes, to be taken whole.

    What a member holds is checked by whoever takes it, for example by `member_text`.

    Raises:
        Damaged: The object is not as large as it was, or its seal is broken.
        Sealed: No key at hand opens it.
    """
    _check_size(store, manifest)
    with open_gzip(store, manifest) as stored:
        for member in manifest.parts:
            yield member, _packed(stored, member.size_bytes)
        if stored.read(1):
            raise damaged(manifest, "there is more in it than was written")


@contextlib.contextmanager
def open_gzip(store: Store, manifest: StoredCopy) -> Iterator[Readable]:
    """Open the gzip stream of a copy, whether it is sealed or not.

    Raises:
        Sealed: It is, and no key at hand opens it.
        Damaged: It is not there, or not what was written.
    """
    identity = keys.find_key(store, manifest) if manifest.seal else None
    with store.read(manifest.data.key) as stored:
        if identity is None:
            yield stored
            return
        with sealing.opened(stored, identity, manifest.name) as plain:
            yield plain


def _check_size(store: Store, manifest: StoredCopy) -> None:
    expected = manifest.data
    held = store.head(expected.key)
    if held is None or held.size_bytes != expected.size_bytes:
        size = "nothing" if held is None else f"{held.size_bytes:,} bytes"
        raise damaged(
            manifest, f"the store holds {size} where it should be {expected.size_bytes:,}"
        )


def _packed(stored: Readable, size_bytes: int) -> Iterator[bytes]:
    while size_bytes and (packed := stored.read(min(_READ_BYTES, size_bytes))):
        size_bytes -= len(packed)
        yield packed


def check_at_hand(store: Store, manifest: StoredCopy) -> None:
    """Make sure that a copy is there and can be opened, before anything is made for it.

    Raises:
        Sealed: It is sealed, and no key at hand opens it.
        Damaged: It is not there, or not as long as it was.
    """
    _check_size(store, manifest)
    if manifest.seal:
        keys.find_key(store, manifest)


def check_unheld(store: Store, manifest: StoredCopy) -> None:
    """Read a copy whole if a part that `psql` will run is too large to be checked by `checked`.

    Raises:
        Damaged: It is not what was written.
    """
    large = (part.size_bytes > _HELD_BYTES for part in manifest.parts if part.kind != "rows")
    if any(large) or not manifest.data.members:
        for _ in text_of(store, manifest):
            pass


def checked(manifest: StoredCopy, member: Member, packed: Iterable[bytes]) -> Iterable[bytes]:
    """The packed bytes of a part, none of them before all are known to be those that were written.

    `psql` obeys whatever it is given, so it is given nothing that somebody else may have written.
    """
    if member.size_bytes > _HELD_BYTES:
        return packed  # it was read before, by `check_unheld`
    sha256, chunks = hashlib.sha256(), []
    for chunk in packed:
        sha256.update(chunk)
        chunks.append(chunk)
    if sha256.hexdigest() != member.sha256:
        raise damaged(manifest, f"{_place(member)}: its SHA-256 is another one")
    return chunks


def member_text(manifest: StoredCopy, member: Member, packed: Iterable[bytes]) -> Iterator[bytes]:
    """The text of a member, checked as it goes by.

    Raises:
        Damaged: It is not what was written; the message says where in the copy it lies.
    """
    sha256 = hashlib.sha256()
    unpacker = isal_zlib.decompressobj(GZIP_WINDOW)
    raw_bytes = 0
    for chunk in packed:
        sha256.update(chunk)
        try:
            for text in _unpack(unpacker, chunk):
                raw_bytes += len(text)
                yield text
        except BrokenGzip as error:
            raise damaged(manifest, f"{_place(member)}: its gzip is broken") from error
    if sha256.hexdigest() != member.sha256:
        raise damaged(manifest, f"{_place(member)}: its SHA-256 is another one")
    if not unpacker.eof or unpacker.unused_data or raw_bytes != member.raw_bytes:
        raise damaged(manifest, f"{_place(member)}: not as much text as was written")


def _place(member: Member) -> str:
    """Where in a copy a member lies, in words."""
    if member.table is None:
        return f"part {member.kind} at byte {member.offset:,}"
    pages = ""
    if member.pages is not None:
        pages = f", pages {member.pages[0]:,} to {member.pages[1] or 'the last'}"
    return f"rows of {member.table}{pages} at byte {member.offset:,}"


def _unpack(unpacker: isal_zlib.Decompress, packed: bytes) -> Iterator[bytes]:
    """Inflate in pieces of bounded size: a megabyte of gzip can hold a gigabyte of zeros."""
    while packed and not unpacker.eof:
        text = unpacker.decompress(packed, _TEXT_BYTES)
        packed = unpacker.unconsumed_tail
        if text:
            yield text
    if packed:
        raise BrokenGzip("bytes after the end")


def check_trailer(manifest: StoredCopy, tail: bytes) -> None:
    """Make sure that a text ends as it was written to.

    Raises:
        Damaged: It ends otherwise.
    """
    if not tail.endswith(manifest.data.trailer.encode() + b"\n"):
        raise damaged(manifest, "its last line is not the one that was written")


def damaged(manifest: StoredCopy, cause: str) -> Damaged:
    """What is said of a copy that is not as it was written."""
    return Damaged(
        f"The stored copy {manifest.name} is damaged: {cause}.",
        hint="Do not use it: choose another copy (`flowforge backup list`), and look at the store.",
        copy=manifest.name,
    )
