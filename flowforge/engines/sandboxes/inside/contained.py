"""From the first process of a container to the keeper of a sandbox.

The container has the namespaces, the disks and the account already. Frames come by standard input
and go by standard output; when the brain lets go of them the keeper ends, and the container too.
"""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path
from typing import Any, NoReturn

from . import frames, prepare
from .keeper import Keeper

_HEAR, _TELL = 0, 1
_COUNTERS = ("/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control")


def main() -> NoReturn:
    """Be the keeper of this container."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        wishes = _receive_wishes()
        if os.getpid() != 1:
            raise OSError(0, "it ends every process it sees, so it must be the first", "container")
        hear, tell = _take_streams()
        prepare.wall_in()
        links = prepare.open_links(wishes)
        place = prepare.make_place(wishes)
        os.write(tell, prepare.ready())
        counter = prepare.counter(_find_counter())
        Keeper(hear, tell, place, links, wishes["memory_bytes"], counter).serve()
    except OSError as error:
        os.write(_TELL, prepare.failed(error))
    finally:
        os._exit(1)


def _receive_wishes() -> dict[str, Any]:
    head = _read(frames.HEADER.size)
    kind, _, size = frames.HEADER.unpack(head)
    if kind != frames.START:
        raise frames.Broken("the first frame must say what is wanted")
    return frames.read_values(_read(size))


def _read(size: int) -> bytes:
    data = b""
    while len(data) < size:
        if not (more := os.read(_HEAR, size - len(data))):
            os._exit(1)
        data += more
    return data


def _take_streams() -> tuple[int, int]:
    """Move the streams where no command has its own."""
    hear, tell = os.dup(_HEAR), os.dup(_TELL)
    nothing = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    os.dup2(nothing, _HEAR)
    return hear, tell


def _find_counter() -> int | None:
    for path in map(Path, _COUNTERS):
        with contextlib.suppress(OSError):
            return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    return None
