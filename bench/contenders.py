"""Who is measured: how each takes a copy and brings it back, as a command of its own."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from flowforge.engines.postgres.installations import Installation
from flowforge.rules.addresses import PostgresAddress

NAME = "bench"
"""The database that is copied."""

TARGET = "restored"
"""The database a copy is brought back into."""

OURS = "FlowForge"


@dataclass(frozen=True)
class Ground:
    """The server, the programs that fit it, and the folders of one measurement."""

    address: PostgresAddress
    tools: Installation
    data: Path
    """The server's own files, for tools that read those."""

    store: Path
    temporary: Path

    @property
    def where(self) -> list[str]:
        """The server as PostgreSQL's programs are told it."""
        address = self.address
        return ["-h", address.host, "-p", str(address.port), "-U", address.user, "--no-password"]

    def program(self, name: str, *arguments: str) -> str:
        """One of PostgreSQL's programs at work on the server, as a line of shell."""
        return shlex.join([self.tools.program(name), *self.where, *arguments])


@dataclass(frozen=True)
class Contender:
    """One way to copy a database, and to bring it back."""

    name: str
    copy: Callable[[Ground], list[str]]
    restore: Callable[[Ground], list[str]] | None = None
    """From what `copy` left in the store into the empty database `TARGET`."""

    lacking: str | None = None
    """Why it cannot be measured here."""


def shell(line: str) -> list[str]:
    """A line of shell that stops at its first failure."""
    return ["sh", "-ec", line]


def ours(name: str = OURS, engine: str = "members") -> Contender:
    """FlowForge, in a process of its own."""
    module = [sys.executable, "-m", "bench.once"]
    return Contender(
        name,
        copy=lambda _: [*module, "copy", engine],
        restore=lambda _: [*module, "restore"],
    )


def directory_format(compress: str) -> Contender:
    """`pg_dump -Fd -j2`, then the upload; the download, then `pg_restore -j2`."""

    def copy(ground: Ground) -> list[str]:
        dump, store = ground.temporary / "dump", ground.store
        taken = ground.program("pg_dump", "-Fd", "-j2", "-Z", compress, "-f", str(dump), NAME)
        return shell(f"{taken} && cp -r {shlex.quote(str(dump))} {q(store)} && sync -f {q(store)}")

    def restore(ground: Ground) -> list[str]:
        dump = ground.temporary / "dump"
        fetched = f"cp -r {q(ground.store / 'dump')} {q(dump)}"
        loaded = ground.program("pg_restore", "-j2", "-d", TARGET, str(dump))
        return shell(f"{fetched} && {loaded}")

    return Contender(f"pg_dump -Fd -j2 -Z{compress}", copy, restore)


def piped() -> Contender:
    """`pg_dump | gzip`, as most people do it; `gunzip | psql` brings it back."""

    def copy(ground: Ground) -> list[str]:
        return shell(f"{ground.program('pg_dump', NAME)} | gzip > {q(ground.store / 'copy.gz')}")

    def restore(ground: Ground) -> list[str]:
        psql = ground.program("psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", TARGET)
        return shell(f"gunzip -c {q(ground.store / 'copy.gz')} | {psql} > /dev/null")

    lacking = None if shutil.which("gzip") else "gzip is not here"
    return Contender("pg_dump | gzip", copy, restore, lacking)


def q(path: Path) -> str:
    """A path as the shell reads it."""
    return shlex.quote(str(path))
