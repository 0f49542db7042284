"""A folder as a store.

An object is written beside its place under another name, flushed to the disk, and linked to its
name in one step that fails when the name is taken. A killed upload leaves a file that begins with
`.upload-`, which no listing shows and which the next upload to the same place sweeps once the
process that wrote it is gone: a live one holds a lock on it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import io
import os
import secrets
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from pydantic import SecretStr

from flowforge.engines.backup.stores.store import Readable, Stored
from flowforge.errors import Damaged, FlowForgeError, Refused, Unavailable

_PARTIAL = ".upload-"


class FolderUpload:
    """A file on its way into a folder store."""

    def __init__(self, file: io.FileIO, partial: Path, final: Path) -> None:
        self._file, self._partial, self._final = file, partial, final
        self.committed = False

    def write(self, chunk: bytes) -> None:
        """Write on."""
        try:
            self._file.write(chunk)
        except OSError as error:
            raise _explain(error, self._final) from error

    def commit(self) -> None:
        """Flush everything to the disk and give the file its name."""
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            os.link(self._partial, self._final)
            _flush_folder(self._final.parent)
        except OSError as error:
            raise _explain(error, self._final) from error
        self.committed = True


class _Part:
    """The next bytes of an open file, up to a number of them."""

    def __init__(self, file: io.FileIO, length: int) -> None:
        self._file, self._left = file, length

    def read(self, size: int, /) -> bytes | None:
        """At most `size` bytes; nothing at the end."""
        chunk = self._file.read(min(size, self._left)) if self._left else b""
        self._left -= len(chunk or b"")
        return chunk


class FolderStore:
    """Keeps objects as files below one folder."""

    def __init__(
        self,
        name: str,
        folder: Path,
        *,
        recipients: tuple[str, ...] = (),
        keys: tuple[SecretStr, ...] = (),
    ) -> None:
        if not folder.is_absolute():
            raise Refused(
                f"The store {name} is the relative folder {folder}.",
                hint="Give an absolute path: workers run in other folders.",
            )
        self.name = name
        self.folder = folder
        self.recipients, self.keys = recipients, keys

    @contextlib.contextmanager
    def upload(self, key: str, *, expected_bytes: int = 0) -> Iterator[FolderUpload]:
        """Begin a file; a file system does not care how large it becomes."""
        final = self._path(key)
        if final.exists():
            raise _taken(final)
        try:
            _make_private(final.parent)
            self._sweep_dead(final.parent)
            descriptor, partial = _create_locked(final.parent)
        except OSError as error:
            raise _explain(error, final) from error
        try:
            with os.fdopen(descriptor, "wb", buffering=0) as file:
                yield FolderUpload(file, partial, final)
        finally:
            partial.unlink(missing_ok=True)

    def put_new(self, key: str, content: bytes) -> None:
        """Write a small file in one step."""
        with self.upload(key) as upload:
            upload.write(content)
            upload.commit()

    @contextlib.contextmanager
    def read(self, key: str, offset: int = 0, length: int | None = None) -> Iterator[Readable]:
        """Open a file."""
        path = self._path(key)
        try:
            file = path.open("rb", buffering=0)
        except FileNotFoundError as error:
            raise Damaged(
                f"The store {self.name} has no {key}.",
                hint="It was deleted outside FlowForge; choose another copy.",
            ) from error
        except OSError as error:
            raise _explain(error, path) from error
        with file:
            file.seek(offset)
            yield file if length is None else _Part(file, length)

    def head(self, key: str) -> Stored | None:
        """Describe a file."""
        return _describe(key, str(self._path(key)))

    def listing(self, prefix: str) -> Iterator[Stored]:
        """Every file whose key begins with `prefix`."""
        below = self._path(prefix) if prefix.endswith("/") else self._path(prefix).parent
        if not self.folder.is_dir():
            raise Unavailable(
                f"The folder of the store {self.name}, {self.folder}, is not there.",
                hint="Mount it, or save the right folder with `flowforge store add`.",
            )
        for folder, folders, files in os.walk(below, onerror=_raise):
            folders.sort()
            place = Path(folder).relative_to(self.folder)
            start = "" if place == Path() else f"{place.as_posix()}/"
            for file in sorted(files):
                key = start + file
                if not file.startswith(_PARTIAL) and key.startswith(prefix):
                    described = _describe(key, f"{folder}/{file}")
                    if described:  # deleted while we listed
                        yield described

    def delete(self, key: str) -> None:
        """Remove a file."""
        path = self._path(key)
        try:
            path.unlink(missing_ok=True)
            _flush_folder(path.parent)
        except FileNotFoundError:
            return
        except OSError as error:
            raise _explain(error, path) from error

    def sweep(self, prefix: str, older_than: datetime) -> list[str]:
        """Remove what killed uploads left below `prefix`."""
        removed = []
        for partial in sorted(self._path(prefix).rglob(f"{_PARTIAL}*")):
            with contextlib.suppress(FileNotFoundError):
                began = datetime.fromtimestamp(partial.stat().st_mtime, UTC)
                if began < older_than and _is_dead(partial):
                    partial.unlink()
                    removed.append(partial.relative_to(self.folder).as_posix())
        return removed

    def _sweep_dead(self, folder: Path) -> None:
        for partial in folder.glob(f"{_PARTIAL}*"):
            with contextlib.suppress(FileNotFoundError):
                if _is_dead(partial):
                    partial.unlink()

    def _path(self, key: str) -> Path:
        path = self.folder / key
        if ".." in path.parts or not path.is_relative_to(self.folder):
            raise Refused(f"{key!r} is not a key.", hint="Keys stay inside their store.")
        return path


def _describe(key: str, path: str) -> Stored | None:
    """An object and its file; as text, because a listing describes tens of thousands."""
    try:
        found = os.stat(path)  # noqa: PTH116
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _explain(error, Path(path)) from error
    return Stored(key, found.st_size, datetime.fromtimestamp(found.st_mtime, UTC))


def _create_locked(folder: Path) -> tuple[int, Path]:
    """Create a partial file and hold its lock; one swept before it was locked is created again."""
    while True:
        partial = folder / f"{_PARTIAL}{secrets.token_hex(8)}"
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_nlink:
            return descriptor, partial
        os.close(descriptor)


def _make_private(folder: Path) -> None:
    """Make a folder and its missing parents, for their owner alone."""
    if not folder.is_dir():
        _make_private(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)


def _is_dead(partial: Path) -> bool:
    """Tell whether the process that wrote a partial file is gone: its lock is free."""
    with partial.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _raise(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise _explain(error, Path(error.filename)) from error


def _taken(path: Path) -> Refused:
    return Refused(
        f"{path.name} exists already.", hint="Nothing is ever overwritten; run it again later."
    )


def _explain(error: OSError, path: Path) -> FlowForgeError:
    if error.errno == errno.EEXIST:
        return _taken(path)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Refused(
            f"The disk under {path.parent} is full.",
            hint="Free space, or save a store on another disk with `flowforge store add`.",
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return Refused(
            f"{path.parent} may not be written: {error.strerror}.",
            hint="Let the account that runs the operations worker write there.",
        )
    return Unavailable(
        f"{path.parent} could not be used: {error.strerror}.",
        hint="Check the disk or mount, then run it again.",
    )
