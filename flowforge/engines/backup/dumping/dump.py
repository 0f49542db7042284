"""Take a copy: one snapshot, one stream, one commit.

Text flows from the server through the compressor, the seal and the store without touching a disk in
between. The manifest is written last; before it there is no copy, whatever else lies in the store.
"""

from __future__ import annotations

import importlib.metadata
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from flowforge.engines.backup.dumping import definitions, members, plain, serverwide
from flowforge.engines.backup.dumping.dumptext import DumpFacts, trailer_line
from flowforge.engines.backup.dumping.packing import Assembly
from flowforge.engines.backup.dumping.progress import Progress
from flowforge.engines.backup.dumping.snapshot import Snapshot, hold_snapshot
from flowforge.engines.backup.seals import keys, sending
from flowforge.engines.backup.seals.sending import Sent
from flowforge.engines.backup.shelf import committing
from flowforge.engines.backup.steps import reached
from flowforge.engines.backup.stores.store import Store
from flowforge.engines.postgres import installations
from flowforge.engines.postgres.installations import Installation
from flowforge.errors import Damaged
from flowforge.rules import names
from flowforge.rules.addresses import PostgresAddress
from flowforge.rules.backups import Manifest, RunFacts, Seal, StoredObject, TableFacts

COUNT_BUDGET_SECONDS = 30.0
CONNECTIONS = 2
_CLOCK_SKEW_SECONDS = 60


Engine = Literal["members", "pg_dump"]


@dataclass(frozen=True)
class _Source:
    """What is copied, from where, and how."""

    address: PostgresAddress
    snapshot: Snapshot
    tools: Installation
    engine: Engine
    connections: int
    count_budget_seconds: float
    on_progress: Callable[[Progress], None]


@dataclass(frozen=True)
class _Dumped:
    """What was sent into the store."""

    facts: DumpFacts
    tables: tuple[TableFacts, ...]
    data: StoredObject
    seal: Seal | None
    globals_data: StoredObject | None
    engine: Engine
    warnings: tuple[str, ...]


def take_copy(
    address: PostgresAddress,
    database: str,
    store: Store,
    *,
    run: RunFacts | None = None,
    engine: Engine = "members",
    connections: int = CONNECTIONS,
    count_budget_seconds: float = COUNT_BUDGET_SECONDS,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> Manifest:
    """Copy a database into a store and return the manifest that was committed with it.

    Args:
        address: The server.
        database: The database.
        store: Where the copy goes.
        run: Who takes it.
        engine: `members` reads with several sessions; `pg_dump` is the reference.
        connections: How many sessions `members` reads with.
        count_budget_seconds: How long the source may count its own rows beside the dump.
        on_progress: Told after every chunk.

    Raises:
        Busy: Another backup of this database is running.
        Refused: A table may not be read, the tools are too old, or the store is full.
        Unavailable: The server or the store went away. Nothing was kept.
        Damaged: The dump ended well and yet is not whole. Nothing was kept.
    """
    if store.recipients:
        keys.check_recipients(store.recipients)
    started_at, clock = datetime.now(UTC), time.monotonic()
    with hold_snapshot(address, database) as snapshot:
        tools = installations.for_server(snapshot.survey.server.major)
        source = _Source(
            address, snapshot, tools, engine, connections, count_budget_seconds, on_progress
        )
        name = committing.free_name(store, address.name, database, snapshot.taken_at)
        dumped = _store(source, store, name)
        reached("complete")
    manifest = Manifest(
        name=name,
        tool_versions={"pg_dump": tools.version},
        run=run or RunFacts(host=socket.gethostname(), flowforge=flowforge_version()),
        started_at=started_at,
        finished_at=datetime.now(UTC),
        seconds=round(time.monotonic() - clock, 3),
        warnings=(*dumped.warnings, *_warnings(snapshot, started_at)),
        **_facts_of(snapshot),
        **_facts_of_dump(dumped),
    )
    committing.commit(store, manifest)
    return manifest


def _facts_of_dump(dumped: _Dumped) -> dict[str, Any]:
    """The part of a manifest that what was sent says."""
    return {
        "engine": dumped.engine,
        "tables": dumped.tables,
        "sequences": dumped.facts.sequences,
        "large_objects": dumped.facts.large_objects,
        "data": dumped.data,
        "seal": dumped.seal,
        "globals_data": dumped.globals_data,
    }


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


def _store(source: _Source, store: Store, name: str) -> _Dumped:
    """Send everything a copy is made of into the store, its key first; commit the data."""
    database = source.snapshot.survey.database
    place = source.address.name, database.name, name
    identity = keys.new_key() if store.recipients else None
    if identity:
        keys.keep_key(store, *place, identity)
    key = names.data_key(*place, sealed=identity is not None)
    with store.upload(key, expected_bytes=database.size_bytes) as upload:
        reached("upload-open")
        with sending.send(upload, identity) as sender:
            facts, engine, warnings = _copy_into(sender.assembly, source, name)
            sent = sender.finish()
        tables = _with_counts(facts.tables, source.snapshot.counts)
        roles = serverwide.copy_globals(store, source.address, *place[1:], source.tools, identity)
        source.snapshot.check_held()
        upload.commit()
    refused = isinstance(roles, str)
    return _Dumped(
        facts=facts,
        tables=tables,
        data=_describe(sent, key, name, facts),
        seal=sending.describe_seal(store, identity, sent),
        globals_data=None if isinstance(roles, str) else roles,
        engine=engine,
        warnings=(*warnings, *([str(roles)] if refused else [])),
    )


def _copy_into(
    assembly: Assembly, source: _Source, name: str
) -> tuple[DumpFacts, Engine, tuple[str, ...]]:
    """Let the engine that can copy the rows and definitions."""
    where = (assembly, source.address, name, source.snapshot, source.tools)
    told: dict[str, Any] = {
        "count_budget_seconds": source.count_budget_seconds,
        "on_progress": source.on_progress,
    }
    warnings = _unlogged(source.snapshot)
    why_not = members.why_not(source.snapshot) if source.engine == "members" else None
    if why_not:
        warnings = (*warnings, f"copied with one session by pg_dump: {why_not}")
    if source.engine == "members" and not why_not:
        facts = members.copy_into(*where, connections=source.connections, **told)
        return facts, "members", warnings
    return plain.copy_into(*where, **told), "pg_dump", warnings


def _describe(sent: Sent, key: str, name: str, facts: DumpFacts) -> StoredObject:
    trailer = trailer_line(name, facts)
    return StoredObject(
        key=key,
        size_bytes=sent.size_bytes,
        raw_bytes=sent.assembly.raw_bytes or facts.raw_bytes + len(trailer) + 1,
        sha256=sent.sha256,
        trailer=trailer,
        members=tuple(sent.assembly.members),
    )


def _unlogged(snapshot: Snapshot) -> tuple[str, ...]:
    found = [relation.name for relation in snapshot.relations if relation.unlogged]
    if not found:
        return ()
    shown = ", ".join(found[:3]) + (" ..." if len(found) > 3 else "")
    return (
        f"{len(found)} unlogged tables are copied; a crash of the server empties them: {shown}",
    )


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


def _warnings(snapshot: Snapshot, started_at: datetime) -> tuple[str, ...]:
    skew = abs((snapshot.taken_at - started_at).total_seconds())
    if skew <= _CLOCK_SKEW_SECONDS:
        return ()
    return (f"the clocks of the worker and of the server differ by {skew:.0f} s",)
