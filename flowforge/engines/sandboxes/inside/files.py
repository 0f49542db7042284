"""What the brain does with files of the workspace, each in a process of its own behind all walls.

It sees what a command sees and writes where a command may, so a link or a rename at the wrong
moment gains nothing.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from . import packing, system, trees, unpacking
from .spawn import Operation, Refused

_REASONS = {
    errno.ENOENT: "it is not there",
    errno.EISDIR: "it is a folder",
    errno.ENOTDIR: "a part of its path is not a folder",
    errno.EACCES: "its mode does not allow it",
    errno.EPERM: "its mode does not allow it",
    errno.EXDEV: "it lies outside the workspace",
    errno.ELOOP: "its links lead in a circle, or out of the workspace",
    errno.ENAMETOOLONG: "its name is too long",
    errno.ENOSPC: "there is no room left on the disk of the sandbox",
    errno.EFBIG: "there is no room left on the disk of the sandbox",
    errno.ETXTBSY: "it is a program that runs",
    errno.ENXIO: "it is not a regular file",
}
_FOLDER = os.O_RDONLY | os.O_DIRECTORY
_CHUNK = 64 * 1024


def read_file(request: Mapping[str, Any], folder: int) -> None:
    """Write a file's content to standard output, if it is a file and not too large."""
    most = int(request["max_bytes"])
    try:
        descriptor = system.open_beneath(_path(request), os.O_RDONLY | os.O_NONBLOCK, folder=folder)
        status = os.fstat(descriptor)
        _check_regular(status)
        if status.st_size > most:
            raise Refused(f"it has {status.st_size} bytes, and no more than {most} are read")
        left = status.st_size
        while left and (data := os.read(descriptor, min(left, _CHUNK))):
            left -= len(data)
            _write_all(1, data)
    except OSError as error:
        raise Refused(_reason(error)) from error


def write_file(request: Mapping[str, Any], folder: int) -> None:
    """Write a file from standard input: wholly, or not at all when there is no room."""
    content = sys.stdin.buffer.read()
    path = _path(request)
    try:
        _make_folders(path, folder)
        flags = os.O_RDWR | os.O_CREAT | os.O_NONBLOCK
        descriptor = system.open_beneath(path, flags, 0o644, folder=folder)
        _check_regular(os.fstat(descriptor))
        if content:  # the room first, so that a full disk does not cost what was in the file
            os.posix_fallocate(descriptor, 0, len(content))
        os.lseek(descriptor, 0, os.SEEK_SET)
        _write_all(descriptor, content)
        os.ftruncate(descriptor, len(content))
    except OSError as error:
        raise Refused(_reason(error)) from error


def pack(request: Mapping[str, Any], folder: int) -> None:
    """Write the workspace to standard output, but for the files whose marks come in."""
    known = trees.read_marks(sys.stdin.buffer.read())
    try:
        most = int(request["most_bytes"])
        for data in packing.pack(_place(folder), known=known, most_bytes=most):
            _write_all(1, data)
    except OSError as error:
        place = os.fsdecode(error.filename or b"")
        _write_all(1, trees.break_off(f"{place!r}: {_reason(error)}"))


def unpack(request: Mapping[str, Any], folder: int) -> None:
    """Make the workspace equal to standard input, and write what the files became."""
    written = bytearray()

    def note(entry: trees.Entry, status: os.stat_result) -> None:
        became = entry._replace(changed=status.st_ctime_ns, number=status.st_ino)
        written.extend(became.pack())

    def read(size: int) -> bytes:
        data = sys.stdin.buffer.read(size)
        if len(data) < size:
            raise trees.BadTree("it ended too early")
        return data

    bounds = {name: int(request[name]) for name in ("most_bytes", "most_entries")}
    try:
        unpacking.unpack(_place(folder), read, note, **bounds)
    except trees.BadTree as error:
        raise Refused(str(error)) from error
    except OSError as error:
        raise Refused(_reason(error)) from error
    _write_all(1, bytes(written) + trees.Entry(trees.END, b"").pack())


OPERATIONS: Mapping[str, Operation] = {
    "read": read_file,
    "write": write_file,
    "pack": pack,
    "unpack": unpack,
}


def _path(request: Mapping[str, Any]) -> bytes:
    path: str = request["path"]
    return path.encode(errors="surrogateescape")


def _place(folder: int) -> Path:
    os.fchdir(folder)
    return Path()


def _check_regular(status: os.stat_result) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, "")
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.ENXIO, "")


def _make_folders(path: bytes, folder: int) -> None:
    done = b""
    for name in path.split(b"/")[:-1]:
        parent = system.open_beneath(done or b".", _FOLDER, folder=folder)
        done = done + b"/" + name if done else name
        try:
            os.mkdir(name, dir_fd=parent)
        except FileExistsError:
            continue
        finally:
            os.close(parent)


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _reason(error: OSError) -> str:
    return _REASONS.get(error.errno or 0) or error.strerror or "the kernel refused"
