"""Take a copy: one snapshot, one stream, one commit.

`pg_dump` text flows through the scanner, the compressor and the store without touching a disk in
between. The manifest is written last; before it there is no copy, whatever else lies in the store.
"""

from __future__ import annotations

import importlib.metadata
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from flowforge.engines.backup import definitions, pgdump
from flowforge.engines.backup.dumptext import DumpFacts, DumpScanner
from flowforge.engines.backup.packing import Packer
from flowforge.engines.backup.snapshot import Snapshot, counting, hold_snapshot
from flowforge.engines.backup.steps import reached
from flowforge.engines.backup.store import Store, Upload
from flowforge.engines.postgres import installations
from flowforge.engines.postgres.installations import Installation
from flowforge.errors import Damaged
from flowforge.rules import names
from flowforge.rules.addresses import PostgresAddress
from flowforge.rules.backups import Manifest, RunFacts, StoredObject, TableFacts

COUNT_BUDGET_SECONDS = 30.0
_CLOCK_SKEW_SECONDS = 60


@dataclass(frozen=True)
class Progress:
    """How far a copy has come."""

    table: str | None
    tables_done: int
    raw_bytes: int
    database_bytes: int
    """Size of the database on the server's disk: a guide, not the size of its text."""


@dataclass(frozen=True)
class _Dumped:
    facts: DumpFacts
    data: StoredObject


def take_copy(
    address: PostgresAddress,
    database: str,
    store: Store,
    *,
    run: RunFacts | None = None,
    count_budget_seconds: float = COUNT_BUDGET_SECONDS,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> Manifest:
    """Copy a database into a store and return the manifest that was committed with it.

    Args:
        address: The server.
        database: The database.
        store: Where the copy goes.
        run: Who takes it.
        count_budget_seconds: How long the source may count its own rows beside the dump.
        on_progress: Told after every chunk.

    Raises:
        Busy: Another backup of this database is running.
        Refused: A table may not be read, the tools are too old, or the store is full.
        Unavailable: The server or the store went away. Nothing was kept.
        Damaged: The dump ended well and yet is not whole. Nothing was kept.
    """
    started_at, clock = datetime.now(UTC), time.monotonic()
    with hold_snapshot(address, database) as snapshot:
        tools = installations.for_server(snapshot.survey.server.major)
        name = _free_name(store, address.name, database, snapshot.taken_at)
        with store.upload(names.data_key(address.name, database, name)) as upload:
            with counting(snapshot, count_budget_seconds):
                dumped = _stream(address, name, snapshot, tools, upload, on_progress)
            tables = _with_counts(dumped.facts.tables, snapshot.counts)
            snapshot.check_held()
            upload.commit()
        reached("complete")
    manifest = Manifest(
        name=name,
        tool_versions={"pg_dump": tools.version},
        run=run or RunFacts(host=socket.gethostname(), flowforge=flowforge_version()),
        started_at=started_at,
        finished_at=datetime.now(UTC),
        seconds=round(time.monotonic() - clock, 3),
        tables=tables,
        sequences=dumped.facts.sequences,
        large_objects=dumped.facts.large_objects,
        data=dumped.data,
        warnings=_warnings(snapshot, started_at),
        **_facts_of(snapshot),
    )
    _commit(store, manifest)
    return manifest


def _facts_of(snapshot: Snapshot) -> dict[str, Any]:
    """The part of a manifest that the snapshot says."""
    return {
        "server": snapshot.survey.server,
        "database": snapshot.survey.database,
        "snapshot_at": snapshot.taken_at,
        "extensions": snapshot.survey.extensions,
        "roles_needed": snapshot.survey.roles_needed,
        "definitions": snapshot.definitions,
        "schema_sha256": definitions.schema_digest(snapshot.definitions),
    }


def flowforge_version() -> str:
    """The installed version of FlowForge."""
    return importlib.metadata.version("flowforge")


def _stream(
    address: PostgresAddress,
    name: str,
    snapshot: Snapshot,
    tools: Installation,
    upload: Upload,
    on_progress: Callable[[Progress], None],
) -> _Dumped:
    """Send the whole dump into the upload and learn what it holds."""
    reached("upload-open")
    packer = Packer(upload)
    try:
        facts = _read_through(address, snapshot, tools, packer, on_progress)
        trailer = trailer_line(name, facts)
        packer.put(trailer.encode() + b"\n")
        packer.close()
    except BaseException:
        packer.abandon()
        raise
    data = StoredObject(
        key=names.data_key(address.name, snapshot.survey.database.name, name),
        size_bytes=packer.size_bytes,
        raw_bytes=facts.raw_bytes + len(trailer) + 1,
        sha256=packer.sha256,
        trailer=trailer,
    )
    return _Dumped(facts, data)


def _read_through(
    address: PostgresAddress,
    snapshot: Snapshot,
    tools: Installation,
    packer: Packer,
    on_progress: Callable[[Progress], None],
) -> DumpFacts:
    """Pass the dump's text on to the packer, and read it on its way."""
    seen = snapshot.survey
    scanner = DumpScanner(seen.codec)
    for chunk in pgdump.stream_dump(
        tools, address, seen.database.name, survey=seen, snapshot=snapshot.token
    ):
        packer.put(chunk)
        scanner.feed(chunk)
        reached("first-chunk")
        done, table = len(scanner.finished_tables), scanner.current_table
        on_progress(Progress(table, done, scanner.raw_bytes, seen.database.size_bytes))
    reached("children-exit")
    facts = scanner.finish()
    if not facts.complete:
        raise Damaged(
            f"pg_dump ended well, but its text of {seen.database.name!r} has no end.",
            hint="Run the backup again; if it happens twice, look at the tools in the log.",
        )
    return facts


def trailer_line(name: str, facts: DumpFacts) -> str:
    """The last line of a whole copy; a text without it was cut, whatever gunzip says."""
    rows = sum(table.rows for table in facts.tables)
    return f"-- flowforge: complete {name} tables={len(facts.tables)} rows={rows}"


def _with_counts(tables: tuple[TableFacts, ...], counts: dict[str, int]) -> tuple[TableFacts, ...]:
    """Put the source's own counts beside the dump's, which must agree: both saw one snapshot."""
    for table in tables:
        if counts.get(table.name, table.rows) != table.rows:
            raise Damaged(
                f"The source counts {counts[table.name]} rows of {table.name}, "
                f"its dump holds {table.rows}.",
                hint="Run the backup again; if it happens twice, check the table with amcheck.",
                table=table.name,
            )
    return tuple(table.model_copy(update={"counted": counts.get(table.name)}) for table in tables)


def _free_name(store: Store, server: str, database: str, at: datetime) -> str:
    """The name of the snapshot's second, or of the next one that is free."""
    while True:
        name = names.copy_name(at)
        keys = names.data_key(server, database, name), names.manifest_key(server, database, name)
        if not any(store.head(key) for key in keys):
            return name
        at += timedelta(seconds=1)


def _commit(store: Store, manifest: Manifest) -> None:
    """Check what the store holds, then make the copy exist by one write."""
    held = store.head(manifest.data.key)
    if held is None or held.size_bytes != manifest.data.size_bytes:
        raise Damaged(
            f"The store {store.name} does not hold what was sent for {manifest.name}.",
            hint="Check the store, then run the backup again. The copy does not exist.",
        )
    reached("head")
    key = names.manifest_key(manifest.server.name, manifest.database.name, manifest.name)
    store.put_new(key, manifest.to_json())
    reached("manifest")


def _warnings(snapshot: Snapshot, started_at: datetime) -> tuple[str, ...]:
    skew = abs((snapshot.taken_at - started_at).total_seconds())
    if skew <= _CLOCK_SKEW_SECONDS:
        return ()
    return (f"the clocks of the worker and of the server differ by {skew:.0f} s",)
