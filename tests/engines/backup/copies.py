"""Copies written straight into a folder: as a listing sees them, without a server or a byte."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

from flowforge.engines.backup.folder import FolderStore
from flowforge.rules import names
from flowforge.rules.backups import Manifest
from flowforge.rules.proofs import Level, ProofMark
from tests.rules.test_backups import manifest, table

NOW = datetime.now(UTC).replace(microsecond=0)


def a_manifest(hours_ago: float, *, tables: int = 1, rows: int = 10, **changes: object) -> Manifest:
    at = NOW - timedelta(hours=hours_ago)
    name = names.copy_name(at)
    facts: dict[str, object] = {
        "name": name,
        "snapshot_at": at,
        "finished_at": at,
        "tables": tuple(table(f"public.t{n}", rows) for n in range(tables)),
        "data": {
            "key": names.data_key("shop", "app", name),
            "size_bytes": 1,
            "raw_bytes": 2,
            "sha256": "x",
            "trailer": "t",
        },
    }
    return manifest(**(facts | changes))


def write_copy(
    store: FolderStore, made: Manifest, *levels: int, database: str = "app", failed: bool = False
) -> str:
    """Put a copy and proofs of some levels into a folder; the last proof may say it failed."""
    put(store, names.data_key("shop", database, made.name), b"x")
    put(store, names.manifest_key("shop", database, made.name), made.to_json())
    for n, level in enumerate(levels):
        verdict = "failed" if failed and n == len(levels) - 1 else "proven"
        mark = ProofMark(Level(level), verdict, made.finished_at + timedelta(minutes=n + 1))  # type: ignore[arg-type]
        key = names.proof_key("shop", database, made.name, mark)
        proof = {
            "schema": 1,
            "copy_name": made.name,
            "level": level,
            "verdict": verdict,
            "checked_at": mark.checked_at.isoformat(),
            "seconds": 1,
        }
        put(store, key, json.dumps(proof).encode())
    return made.name


def put(store: FolderStore, key: str, content: bytes) -> Path:
    path = store.folder / key
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path
