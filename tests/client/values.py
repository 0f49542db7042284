"""A copy, a proof and an operation as the ledger would tell of them."""

from __future__ import annotations

from datetime import UTC, datetime

from flowforge.rules.backups import (
    Copy,
    DatabaseFacts,
    Level,
    Manifest,
    Operation,
    Proof,
    RunFacts,
    ServerFacts,
    StoredObject,
)

AT = datetime(2026, 11, 24, 6, 0, 5, tzinfo=UTC)


def a_copy(name: str = "backup-20261124-060000", database: str = "app") -> Copy:
    return Copy(
        server="shop",
        database=database,
        name=name,
        store="backups",
        snapshot_at=AT,
        finished_at=AT,
        size_bytes=12_400_000,
        raw_bytes=80_000_000,
        tables=14,
        rows=84_210,
        system_identifier="7",
        level=Level.COMPARED,
        proven_at=AT,
    )


def a_proof() -> Proof:
    return Proof(
        copy_name="backup-20261124-060000",
        level=Level.COMPARED,
        verdict="proven",
        checked_at=AT,
        seconds=2.5,
        tables_total=14,
        tables_counted=14,
        tables_digested=14,
        rows_compared=84_210,
    )


def an_operation(flow_run_id: str, outcome: str = "done", facts: object = None) -> Operation:
    return Operation.model_validate(
        {
            "operation": "backup",
            "flow_run_id": flow_run_id,
            "flow_run_name": "brave-otter",
            "outcome": outcome,
            "evidence": "proven L3: 14 tables compared, 84,210 rows",
            "seconds": 6.1,
            "finished_at": AT,
            "facts": facts or {},
        }
    )


def a_manifest(name: str = "backup-20261124-060000") -> Manifest:
    return Manifest(
        name=name,
        tool_versions={},
        run=RunFacts(),
        server=ServerFacts(
            name="shop",
            system_identifier="7",
            version_num=180006,
            version="18.6",
            is_replica=False,
        ),
        database=DatabaseFacts(
            name="app",
            oid=16384,
            encoding="UTF8",
            collate="C",
            ctype="C",
            owner="app",
            size_bytes=80_000_000,
        ),
        started_at=AT,
        snapshot_at=AT,
        finished_at=AT,
        seconds=2.5,
        definitions={},
        schema_sha256="0" * 64,
        tables=(),
        data=StoredObject(
            key=f"postgres/shop/app/{name}.sql.gz",
            size_bytes=12_400_000,
            raw_bytes=80_000_000,
            sha256="0" * 64,
            trailer="--",
        ),
    )
