"""Streams in the age format: encrypted on their way into a store, decrypted on their way out.

The format is worked by a library that pulls from one side and pushes to the other, so it gets a
thread of its own and a pipe of the system between: neither side holds more than a few chunks.

Source of the format: https://age-encryption.org/v1
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from typing import IO

import pyrage
from pyrage.x25519 import Identity, Recipient

from flowforge.engines.backup.stores.store import Readable, Upload
from flowforge.errors import Damaged, Unavailable

_READ_BYTES = 256 * 1024


class SealingUpload:
    """Encrypts what is written and sends it on to an upload.

    Args:
        upload: Where it goes.
        identity: The key of the copy; only its public half is used.
    """

    def __init__(self, upload: Upload, identity: Identity) -> None:
        self.size_bytes = 0
        self._sha256 = hashlib.sha256()
        self._upload = upload
        self._error: BaseException | None = None
        read, write = os.pipe()
        self._source: IO[bytes] = os.fdopen(read, "rb")
        self._sink: IO[bytes] = os.fdopen(write, "wb", buffering=0)
        self._thread = threading.Thread(target=self._run, args=(identity.to_public(),), daemon=True)
        self._thread.start()

    @property
    def sha256(self) -> str:
        """Digest of everything that was sent on."""
        return self._sha256.hexdigest()

    def write(self, chunk: bytes) -> None:
        """Encrypt on; raises what went wrong with what was written before."""
        try:
            _write_all(self._sink, chunk)
        except BrokenPipeError:
            self._thread.join()
            raise self._error or _given_up() from None

    def commit(self) -> None:
        """Encrypt the end, then make the object appear."""
        self.close()
        self._upload.commit()

    def close(self) -> None:
        """Encrypt the end; everything has been sent on when this returns."""
        self._sink.close()
        self._thread.join()
        if self._error is not None:
            raise self._error

    def abandon(self) -> None:
        """End without caring for what was written; nothing more is sent on."""
        self._error = self._error or _given_up()
        self._sink.close()
        self._thread.join()

    def _run(self, recipient: Recipient) -> None:
        try:
            pyrage.encrypt_io(self._source, _Writing(self._send), [recipient])
        except BaseException as error:  # noqa: BLE001  raised again by `write` or `close`
            self._error = self._error or error
        finally:
            self._source.close()

    def _send(self, sealed: bytes) -> None:
        try:
            if self._error is not None:
                raise self._error
            self._sha256.update(sealed)
            self.size_bytes += len(sealed)
            self._upload.write(sealed)
        except BaseException as error:
            self._error = error  # the library would make another error of it
            raise


@contextlib.contextmanager
def opened(stored: Readable, identity: Identity, copy: str) -> Iterator[Readable]:
    """Decrypt an object while it is read.

    Args:
        stored: The object.
        identity: The key of its copy.
        copy: The name of the copy, for what is said when it is damaged.

    Raises:
        Damaged: A byte of it is not the one that was written; everything read before is.
    """
    opening = _Opening(stored, identity, copy)
    try:
        yield opening
    finally:
        opening.close()


class _Opening:
    """The readable side of a decryption; its end is an end only when the decryption says so."""

    def __init__(self, stored: Readable, identity: Identity, copy: str) -> None:
        self._stored, self._copy = stored, copy
        self._error: BaseException | None = None
        self._of_store: BaseException | None = None
        read, write = os.pipe()
        self._source: IO[bytes] = os.fdopen(read, "rb")
        self._sink: IO[bytes] = os.fdopen(write, "wb", buffering=0)
        self._thread = threading.Thread(target=self._run, args=(identity,), daemon=True)
        self._thread.start()

    def read(self, size: int, /) -> bytes:
        chunk = self._source.read(size)
        if not chunk:
            self._thread.join()
            if self._of_store is not None:
                raise self._of_store
            if self._error is not None:
                raise Damaged(
                    f"The stored copy {self._copy} is damaged: its seal is broken.",
                    hint="Do not use it: choose another copy, and look at the store.",
                    copy=self._copy,
                ) from self._error
        return chunk

    def close(self) -> None:
        self._source.close()  # the decryption meets a closed pipe, if it is not done
        self._thread.join()

    def _run(self, identity: Identity) -> None:
        try:
            pyrage.decrypt_io(_Reading(self._fetch), _Writing(self._pass_on), [identity])
        except BaseException as error:  # noqa: BLE001  raised again by `read`
            self._error = error
        finally:
            self._sink.close()

    def _fetch(self) -> bytes:
        try:
            return self._stored.read(_READ_BYTES) or b""
        except BaseException as error:
            self._of_store = error  # the library would make another error of it
            raise

    def _pass_on(self, text: bytes) -> None:
        _write_all(self._sink, text)


class _Reading:
    """What the library reads from: a few bytes at a time, fetched in larger pieces."""

    def __init__(self, fetch: Callable[[], bytes]) -> None:
        self._fetch = fetch
        self._held = memoryview(b"")

    def read(self, size: int, /) -> bytes:
        if not self._held:
            self._held = memoryview(self._fetch())
        taken, self._held = self._held[:size], self._held[size:]
        return bytes(taken)


class _Writing:
    """What the library writes to."""

    def __init__(self, send: Callable[[bytes], None]) -> None:
        self._send = send

    def write(self, chunk: bytes, /) -> int:
        self._send(bytes(chunk))
        return len(chunk)

    def flush(self) -> None:
        """Nothing is held back here."""


def _write_all(sink: IO[bytes], chunk: bytes) -> None:
    left = memoryview(chunk)
    while left:
        left = left[sink.write(left) or 0 :]


def _given_up() -> Unavailable:
    return Unavailable("The upload was given up.", hint="Run it again.")
