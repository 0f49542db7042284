"""Compress and upload a stream on a thread of its own, so that whoever makes it never waits.

`isal` writes gzip that plain `gunzip` reads, at several times the speed of zlib; it lets go of the
interpreter while it works, so this thread and the scanner share two cores.
"""

from __future__ import annotations

import contextlib
import hashlib
import queue
import threading

from isal import isal_zlib

from flowforge.engines.backup.store import Upload
from flowforge.errors import Unavailable

GZIP_LEVEL = 2  # as small as zlib's level 1, at five times its speed
GZIP_WINDOW = 31  # a gzip header and trailer
_QUEUED_CHUNKS = 8


class Packer:
    """Takes chunks of text and sends their gzip to an upload."""

    def __init__(self, upload: Upload) -> None:
        self.size_bytes = 0
        self._upload = upload
        self._sha256 = hashlib.sha256()
        self._chunks: queue.Queue[bytes | None] = queue.Queue(_QUEUED_CHUNKS)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def sha256(self) -> str:
        """Digest of everything uploaded so far."""
        return self._sha256.hexdigest()

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
                self._send(packer.compress(chunk))
            if self._error is None:
                self._send(packer.flush())
        except BaseException as error:  # noqa: BLE001  raised again by the next `put` or `close`
            self._error = error
            while self._chunks.get() is not None:
                pass  # the maker may be waiting for room; let it come to its next `put`

    def _send(self, packed: bytes) -> None:
        if packed:
            self._sha256.update(packed)
            self.size_bytes += len(packed)
            self._upload.write(packed)
