"""Prove a copy: load it into a server of its own, dump that, and compare with what was dumped.

The scratch server lives for this one proof, is reachable by nobody else, and may hold any role the
copy names. What this machine cannot offer (an extension, a newer major, room on the disk) makes a
proof inconclusive: that says nothing against the copy, and nothing for it.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import psycopg
from psycopg.sql import SQL, Identifier

from flowforge.engines.backup.dumping import definitions, pgdump, tabletext
from flowforge.engines.backup.dumping import survey as surveying
from flowforge.engines.backup.dumping.dumptext import DumpScanner
from flowforge.engines.backup.dumping.identifiers import identifier_parts
from flowforge.engines.backup.loading import loading, reading
from flowforge.engines.backup.proving import booting, indexes, questions, rowdiff
from flowforge.engines.backup.proving.trials import Trial
from flowforge.engines.backup.seals import keys
from flowforge.engines.backup.steps import reached
from flowforge.engines.backup.stores.store import Store
from flowforge.engines.postgres import connection, installations
from flowforge.engines.postgres.cluster import SUPERUSER, scratch_server
from flowforge.engines.postgres.installations import Installation
from flowforge.errors import Damaged, Unavailable
from flowforge.rules import comparison, proving, tools
from flowforge.rules.addresses import PostgresAddress
from flowforge.rules.backups import Level, Manifest, Proof, TableFacts
from flowforge.rules.proving import STANDARD_PROOF, ProofPolicy

COMPARE_BUDGET_SECONDS = 600.0
_ROOM_FACTOR = 1.3
_PART_FOR_INDEXES = 0.25
PROOF_DATABASE = "proof"


def prove_by_restoring(
    store: Store,
    manifest: Manifest,
    *,
    policy: ProofPolicy = STANDARD_PROOF,
    scratch_parent: Path | None = None,
    installation: Installation | None = None,
) -> Proof:
    """Restore a copy on a scratch server, compare it with its dump (L3), and question it (L4).

    Args:
        store: Where the copy is.
        manifest: Its manifest.
        policy: How long restored tables may be hashed, and what the copy is asked.
        scratch_parent: Folder for the scratch server; by default the system's temporary folder.
        installation: Programs to run it from; by default the oldest here that can hold the copy.
    """
    installation = installation or installations.for_scratch(manifest.server.major)
    trial = Trial(
        copy_name=manifest.name,
        clock=time.monotonic(),
        manifest=manifest,
        installation=installation,
    )
    lacking = _what_is_lacking(manifest, installation, scratch_parent)
    if installation is None or lacking:
        return trial.ends(Level.RESTORED, "inconclusive", cause=lacking)
    try:
        reading.check_at_hand(store, manifest)
        with scratch_server(installation, scratch_parent) as address:
            return _prove(store, trial, installation, address, policy)
    except loading.LoadFailed as failure:
        verdict = "inconclusive" if failure.missing else "failed"
        cause = f"{failure.missing}: {failure.message}" if failure.missing else failure.message
        return trial.ends(Level.RESTORED, verdict, cause=cause)
    except keys.Sealed as closed:
        return trial.ends(Level.RESTORED, "inconclusive", cause=closed.message)
    except Damaged as damage:
        return trial.ends(Level.READ_BACK, "failed", cause=damage.message)
    except Unavailable as outage:  # of the scratch server, its tools, or the store: not of the copy
        return trial.ends(Level.RESTORED, "inconclusive", cause=outage.message)


def _prove(
    store: Store,
    trial: Trial,
    installation: Installation,
    address: PostgresAddress,
    policy: ProofPolicy,
) -> Proof:
    """Everything that is done on the scratch server."""
    manifest, budget = trial.manifest, policy.budget_seconds
    with trial.phase("load"):
        remarks = _restore(store, manifest, installation, address)
    with trial.phase("first query"):
        _count_largest(address, manifest)
    with trial.phase("compare"):
        found, named = compare_restored(
            store, manifest, installation, address, PROOF_DATABASE, budget_seconds=budget
        )
    with trial.phase("indexes"):
        until = time.monotonic() + budget * _PART_FOR_INDEXES
        checked = indexes.check(address, PROOF_DATABASE, until=until)
    reached("proof")
    verdict, why = comparison.judge(found)
    if checked.differences and verdict != "failed":
        verdict, why = "failed", checked.differences[0]
    differences = (*named, *found.differences, *checked.differences)
    facts: dict[str, object] = {
        "differences": differences[: comparison.MOST_DIFFERENCES],
        "tables_counted": found.tables_counted,
        "tables_digested": found.tables_digested,
        "rows_compared": found.rows_compared,
        "definitions_compared": found.definitions_compared,
        "indexes_checked": checked.indexes,
        "remarks": (*remarks, *found.remarks, *checked.remarks),
    }
    if verdict != "proven":
        return trial.ends(Level.COMPARED, verdict, cause=why, **facts)
    return _question(trial, installation, address, policy, facts)


def _question(
    trial: Trial,
    installation: Installation,
    address: PostgresAddress,
    policy: ProofPolicy,
    facts: dict[str, object],
) -> Proof:
    """Ask what the policy asks. What cannot be asked here leaves the copy at L3, and is said."""
    starts = policy.start_prefect and booting.is_prefect(trial.manifest)
    if not policy.questions and not starts:
        return trial.ends(Level.COMPARED, "proven", **facts)
    with trial.phase("questions"):
        answers = questions.ask(address, PROOF_DATABASE, installation.major, policy.questions)
        if starts:
            answers.append(booting.list_runs(address, PROOF_DATABASE))
    verdict, why = proving.judge_answers(answers)
    facts["answers"] = tuple(answers)
    if verdict == "inconclusive":
        said = f"its questions could not all be asked here: {why}"
        facts["remarks"] = (*cast(tuple[str, ...], facts["remarks"]), said)
        return trial.ends(Level.COMPARED, "proven", **facts)
    return trial.ends(Level.ANSWERED, verdict, cause=why, **facts)


def _count_largest(address: PostgresAddress, manifest: Manifest) -> None:
    """What an application would do first: read the largest table, from a server just filled."""
    largest = max(manifest.tables, key=lambda table: table.raw_bytes, default=None)
    if largest is not None:
        with connection.connect(address, PROOF_DATABASE) as session:
            _count(session, largest.name)


def _what_is_lacking(
    manifest: Manifest, installation: Installation | None, scratch_parent: Path | None
) -> str | None:
    if installation is None:
        return f"no PostgreSQL {manifest.server.major} or newer is installed here"
    written = manifest.tool_versions.get("pg_dump")
    if written and (unreadable := tools.why_unreadable(installation.version, written)):
        return unreadable
    free = shutil.disk_usage(scratch_parent or tempfile.gettempdir()).free
    if free < manifest.database.size_bytes * _ROOM_FACTOR:
        return f"the copy needs {manifest.database.size_bytes:,} bytes, {free:,} are free here"
    return None


def compare_restored(
    store: Store,
    manifest: Manifest,
    installation: Installation,
    address: PostgresAddress,
    database: str,
    *,
    budget_seconds: float = COMPARE_BUDGET_SECONDS,
) -> tuple[comparison.Comparison, tuple[str, ...]]:
    """Compare a restored database with its manifest; also name the rows that differ."""
    restored = observe(
        manifest, installation, address, database, until=time.monotonic() + budget_seconds
    )
    found = comparison.compare(manifest, restored)
    if not found.differing_tables:
        return found, ()
    named = rowdiff.name_rows(store, manifest, address, database, found.differing_tables)
    return found, named


def observe(
    manifest: Manifest,
    installation: Installation,
    address: PostgresAddress,
    database: str,
    *,
    until: float,
) -> comparison.Restored:
    """Say what a restored database holds, by dumping it again.

    Args:
        manifest: What was restored; its `lc_monetary` is what both dumps are written with.
        installation: The programs that fit the server.
        address: The server.
        database: The restored database.
        until: `time.monotonic()` at which hashing stops and counting begins.
    """
    with connection.connect(address, database) as session:
        seen = surveying.as_dumped(session, address.name, manifest)
        inventory = definitions.read_definitions(session)
        scanner = DumpScanner(seen.codec)
        out_of_time = _deadline(until)
        for chunk in pgdump.stream_dump(
            installation,
            address,
            database,
            survey=seen,
            switches=("--data-only",),
            stop=out_of_time,
        ):
            scanner.feed(chunk)
        facts = scanner.so_far() if out_of_time() else scanner.finish()
        tables = _read_as_dumped(manifest, facts.tables, address, database, seen)
        done = {table.name for table in facts.tables}
        left = [] if facts.complete else [t.name for t in manifest.tables if t.name not in done]
        return comparison.Restored(
            major=seen.server.major,
            tables=tables,
            counts={name: _count(session, name) for name in left},
            sequences=facts.sequences,
            large_objects=facts.large_objects if facts.complete else None,
            definitions=inventory,
            extensions=seen.extensions,
        )


def _read_as_dumped(
    manifest: Manifest,
    tables: tuple[TableFacts, ...],
    address: PostgresAddress,
    database: str,
    seen: surveying.Survey,
) -> tuple[TableFacts, ...]:
    """The same tables; those whose columns have come into another order are read in the old one."""
    dumped = {table.name: table.columns for table in manifest.tables}
    turned = {
        table.name: dumped[table.name]
        for table in tables
        if table.name in dumped and _is_turned(table.columns, dumped[table.name])
    }
    scanner = DumpScanner(seen.codec)
    for chunk in tabletext.read_tables(address, database, turned, survey=seen):
        scanner.feed(chunk)
    again = {table.name: table for table in scanner.so_far().tables}
    return tuple(again.get(table.name, table) for table in tables)


def _is_turned(columns: str, dumped: str) -> bool:
    now, then = identifier_parts(columns), identifier_parts(dumped)
    return now != then and sorted(now) == sorted(then)


def _count(session: psycopg.Connection[Any], table: str) -> int:
    name = Identifier(*identifier_parts(table))
    row = session.execute(SQL("SELECT count(*) FROM ONLY {}").format(name)).fetchone()
    return int(row[0]) if row else 0


def _restore(
    store: Store, manifest: Manifest, installation: Installation, address: PostgresAddress
) -> list[str]:
    with connection.connect(address, "postgres") as session:
        for role in manifest.roles_needed:
            if role != SUPERUSER:
                session.execute(SQL("CREATE ROLE {}").format(Identifier(role)))
        remarks = loading.create_database(
            session,
            PROOF_DATABASE,
            manifest.database,
            major=installation.major,
            owner=manifest.database.owner,
            any_locale=True,
        )
    loading.load(store, manifest, installation, address, PROOF_DATABASE)
    return remarks


def _deadline(until: float) -> Callable[[], bool]:
    return lambda: time.monotonic() >= until
