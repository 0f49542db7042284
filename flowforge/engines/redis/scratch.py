"""A Redis server that loads one snapshot, for a proof or a restore, and dies with it.

It listens on a socket in a folder of its own, saves nothing, and believes it is the replica of a
master that cannot exist (port 0 can be listened on by nobody): a replica lets no key expire by
itself, so every key of the snapshot is there to be counted, however old the snapshot is.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from flowforge.engines.postgres import guard
from flowforge.engines.redis import connection, programs
from flowforge.errors import Unavailable
from flowforge.rules.redis_addresses import RedisAddress

SNAPSHOT = "dump.rdb"
LOAD_SECONDS = 4 * 3600.0
_DEFAULT_DATABASES = 16
_LOOK_SECONDS = 0.02
_LONGEST_SOCKET_BYTES = 100
_DEBUG_SINCE = (7, 0)  # before, DEBUG needs no leave
_CGROUP = Path("/sys/fs/cgroup")
_NOT_OF_THE_COPY = (
    "Can't handle RDB format version",
    "module",
    "Out Of Memory",
    "Cannot allocate memory",
    "Can't open",
    "No space left",
)


class NotLoaded(Exception):
    """The server did not load the snapshot.

    Args:
        cause: Why, in words.
        speaks_against_it: Whether the snapshot is to blame, and not this machine.
    """

    def __init__(self, cause: str, *, speaks_against_it: bool) -> None:
        super().__init__(cause)
        self.cause, self.speaks_against_it = cause, speaks_against_it


@contextlib.contextmanager
def folder(parent: Path | None = None) -> Iterator[Path]:
    """A folder for a snapshot and its server, gone when the block ends."""
    place = Path(tempfile.mkdtemp(prefix="ff-redis-", dir=parent))
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


@contextlib.contextmanager
def loaded(place: Path, *, highest_database: int = 0) -> Iterator[RedisAddress]:
    """Run a server that has loaded the snapshot in a folder, for as long as the block lasts.

    It ends with the block, and also when this process is killed.

    Args:
        place: The folder, with the snapshot in it.
        highest_database: The highest number of a database in the snapshot.

    Raises:
        NotLoaded: It ended while it loaded.
        Unavailable: It does not answer.
    """
    sockets = Path(tempfile.mkdtemp(prefix="ff-s-")) if _is_long(place) else place
    address = RedisAddress(name="the scratch Redis", host=str(sockets / "redis.sock"))
    log = place / "log"
    # SIGQUIT is how the guard ends it; a core as large as its memory would be left behind.
    limited = ["/bin/sh", "-c", 'ulimit -c 0; exec "$@"', "sh", *_command(place, sockets)]
    limited[-1:] = [limited[-1], "--databases", str(max(_DEFAULT_DATABASES, highest_database + 1))]
    with log.open("wb") as said:
        process = subprocess.Popen(
            [sys.executable, "-S", "-E", str(Path(guard.__file__)), str(place), *limited],
            stdin=subprocess.PIPE,
            stdout=said,
            stderr=said,
            start_new_session=True,  # what kills our whole group must not kill the guard
        )
    assert process.stdin is not None
    try:
        _wait_until_loaded(address, process, log)
        yield address
    finally:
        process.stdin.close()
        process.wait(timeout=60)
        shutil.rmtree(sockets, ignore_errors=True)


def free_memory_bytes() -> int:
    """What a server could take here, by this machine and by the limit this process is under."""
    free = psutil.virtual_memory().available
    with contextlib.suppress(OSError, ValueError):
        limit = int((_CGROUP / "memory.max").read_text())
        used = int((_CGROUP / "memory.current").read_text())
        statistics = dict(
            line.split() for line in (_CGROUP / "memory.stat").read_text().splitlines()
        )
        free = min(free, limit - used + int(statistics.get("inactive_file", 0)))
    return max(0, free)


def _command(place: Path, sockets: Path) -> list[str]:
    words = [programs.find("redis-server"), "--port", "0", "--daemonize", "no"]
    words += ["--unixsocket", str(sockets / "redis.sock"), "--unixsocketperm", "700"]
    words += ["--dir", str(place), "--dbfilename", SNAPSHOT, "--save", "", "--appendonly", "no"]
    words += ["--maxmemory", "0", "--replicaof", "127.0.0.1", "0"]
    if programs.major_minor(programs.version("redis-server")) >= _DEBUG_SINCE:
        words += ["--enable-debug-command", "local"]
    return words


def _wait_until_loaded(address: RedisAddress, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + LOAD_SECONDS
    while time.monotonic() < deadline:
        said = log.read_text(errors="replace") if log.exists() else ""
        if process.poll() is not None:
            raise _why_not_loaded(said, process.returncode)
        with contextlib.suppress(Unavailable), connection.connect(address) as session:
            session.execute_command("PING")
            return
        time.sleep(_LOOK_SECONDS)
    raise Unavailable(
        f"The scratch Redis did not load within {LOAD_SECONDS:,.0f} s.",
        hint="Look at the load of this machine, then prove the copy again.",
    )


def _why_not_loaded(said: str, status: int) -> NotLoaded:
    lines = [line.split("#", 1)[-1].strip() for line in said.splitlines() if line.strip()]
    cause = next(
        (line for line in reversed(lines) if "Fatal" in line or "rror" in line or "Can't" in line),
        lines[-1] if lines else f"it ended with {status}",
    )
    killed = status in (-9, 137)
    elsewhere = killed or any(word in said for word in _NOT_OF_THE_COPY)
    return NotLoaded(
        "it was killed, perhaps for its memory" if killed else cause[:300],
        speaks_against_it=not elsewhere,
    )


def _is_long(place: Path) -> bool:
    return len(str(place).encode()) > _LONGEST_SOCKET_BYTES - len("/redis.sock")
