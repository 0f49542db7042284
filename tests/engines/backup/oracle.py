"""What two ways of copying a database must agree on, down to the last object and row."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from difflib import unified_diff
from pathlib import Path

from flowforge.engines.backup.dumping import dump, pgdump
from flowforge.engines.backup.dumping.dumptext import DumpFacts, DumpScanner
from flowforge.engines.backup.dumping.survey import Survey, survey
from flowforge.engines.backup.loading import loading
from flowforge.engines.backup.stores.folder import FolderStore
from flowforge.engines.postgres import connection, installations
from flowforge.rules.addresses import PostgresAddress
from flowforge.rules.backups import Manifest

Database = Callable[..., PostgresAddress]


@dataclass(frozen=True)
class Held:
    """What a database holds, whatever the order of its rows."""

    schema: tuple[str, ...]
    """Lines of definitions, in the order in which `pg_dump` writes them."""

    rows: tuple[str, ...]
    """A line for each table, sequence, and for all large objects."""

    def must_equal(self, other: Held) -> None:
        """Fail with the lines that differ."""
        found = [*unified_diff(other.schema, self.schema, lineterm="")]
        found += unified_diff(other.rows, self.rows, lineterm="", n=0)
        assert not found, "\n".join(found)


def psql(address: PostgresAddress, major: int, text: bytes) -> None:
    """Run a text as a person would, and fail at its first error."""
    program = installations.for_server(major).program("psql")
    done = subprocess.run(
        [program, "-X", "-q", "-o", "/dev/null", "-v", "ON_ERROR_STOP=1"],
        input=text,
        env=connection.client_environment(address, address.database),
        stderr=subprocess.PIPE,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode("utf-8", "backslashreplace")


def unpacked(store: FolderStore, manifest: Manifest) -> bytes:
    """What `gunzip -c` makes of a copy."""
    file = store.folder / manifest.data.key
    return subprocess.run(["gunzip", "-c", str(file)], capture_output=True, check=True).stdout


def held(address: PostgresAddress) -> Held:
    """Read a database with `pg_dump` alone."""
    with connection.connect(address) as session:
        seen = survey(session, address.name)
    schema = b"".join(_dump(address, seen, "--schema-only")).decode("utf-8", "backslashreplace")
    scanner = DumpScanner(seen.codec)
    for chunk in _dump(address, seen):
        scanner.feed(chunk)
    lines = re.sub(r"(?m)^\\(un)?restrict .*$", "", schema).splitlines()
    return Held(tuple(lines), lines_of(scanner.finish()))


def lines_of(facts: DumpFacts | Manifest) -> tuple[str, ...]:
    """What was seen of rows, as lines in an order that depends on nothing."""
    tables = [table.model_dump_json(exclude={"counted"}) for table in facts.tables]
    sequences = [sequence.model_dump_json() for sequence in facts.sequences]
    return (*sorted(tables), *sorted(sequences), facts.large_objects.model_dump_json())


def _dump(address: PostgresAddress, seen: Survey, *switches: str) -> Iterator[bytes]:
    tools = installations.for_server(seen.server.major)
    return pgdump.stream_dump(tools, address, address.database, survey=seen, switches=switches)


def copied_by(engine: str, source: PostgresAddress, folder: Path) -> tuple[FolderStore, Manifest]:
    """Take a copy with one engine and make sure that no other one took its place."""
    store = FolderStore("backups", folder / engine)
    made = dump.take_copy(source, source.database, store, engine=engine)  # type: ignore[arg-type]
    assert made.engine == engine, made.warnings
    return store, made


def engines_agree_on(
    database: Database, source: PostgresAddress, folder: Path, major: int, names: str = "by"
) -> Manifest:
    """Copy a database with both engines, restore both with plain tools, compare everything.

    The restores are compared with each other: of a few definitions, such as a column order that
    inheritance changes, even the reference makes something else than there was.
    """

    def empty(name: str) -> PostgresAddress:
        return database(major=major, name=f"{names} {name}")

    reference_store, reference = copied_by("pg_dump", source, folder)
    store, members = copied_by("members", source, folder)
    assert lines_of(members) == lines_of(reference)
    assert members.definitions == reference.definitions

    restored = empty("the reference")
    psql(restored, major, unpacked(reference_store, reference))
    wanted = held(restored)
    plain, beside = empty("plain tools"), empty("side by side")
    psql(plain, major, unpacked(store, members))
    held(plain).must_equal(wanted)
    loading.load(store, members, installations.for_server(major), beside, beside.database)
    held(beside).must_equal(wanted)
    return members
