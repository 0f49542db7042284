"""Who is measured: how each takes a copy and brings it back, as a command of its own."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.shelves import Shelf
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

    shelf: Shelf
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
    """Into its corner of the shelf."""

    restore: Callable[[Ground], list[str]] | None = None
    """From what `copy` left there into the empty database `TARGET`."""

    lacking: str | None = None
    """Why it cannot be measured here."""

    @property
    def corner(self) -> str:
        """Its corner of the shelf."""
        return re.sub(r"[^a-z0-9]+", "-", self.name.lower()).strip("-")


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
        dump = ground.temporary / "dump"
        taken = ground.program("pg_dump", "-Fd", "-j2", "-Z", compress, "-f", str(dump), NAME)
        return shell(f"{taken} && {ground.shelf.upload(dump, made.corner)}")

    def restore(ground: Ground) -> list[str]:
        dump = ground.temporary / "dump"
        loaded = ground.program("pg_restore", "-j2", "-d", TARGET, str(dump))
        return shell(f"{ground.shelf.download(made.corner, dump)} && {loaded}")

    made = Contender(f"pg_dump -Fd -j2 -Z{compress}", copy, restore)
    return made


def custom_format() -> Contender:
    """`pg_dump -Fc` in one stream into the store, `pg_restore` from it; nothing in parallel."""

    def copy(ground: Ground) -> list[str]:
        return shell(f"{ground.program('pg_dump', '-Fc', NAME)} | {ground.shelf.sink(made.corner)}")

    def restore(ground: Ground) -> list[str]:
        loaded = ground.program("pg_restore", "-d", TARGET)
        return shell(f"{ground.shelf.source(made.corner)} | {loaded}")

    made = Contender("pg_dump -Fc", copy, restore)
    return made


def piped() -> Contender:
    """`pg_dump | gzip`, as most people do it; `gunzip | psql` brings it back."""

    def copy(ground: Ground) -> list[str]:
        dumped = ground.program("pg_dump", NAME)
        return shell(f"{dumped} | gzip | {ground.shelf.sink(made.corner)}")

    def restore(ground: Ground) -> list[str]:
        psql = ground.program("psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", TARGET)
        return shell(f"{ground.shelf.source(made.corner)} | gunzip -c | {psql} > /dev/null")

    lacking = None if shutil.which("gzip") else "gzip is not here"
    made = Contender("pg_dump | gzip", copy, restore, lacking)
    return made
