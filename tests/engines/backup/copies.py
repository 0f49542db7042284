"""Copies written straight into a folder: as a listing sees them, without a server or a byte."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from flowforge.engines.backup.dumping.packing import add_member
from flowforge.engines.backup.seals import keys, sending
from flowforge.engines.backup.stores.folder import FolderStore
from flowforge.engines.backup.stores.store import Store
from flowforge.rules import names
from flowforge.rules.backups import Manifest, StoredObject
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


def keep_copy(
    store: Store, hours_ago: float, rows: Mapping[str, bytes] | None = None, **changes: Any
) -> Manifest:
    """Keep a small copy that is whole, sealed when the store seals: every byte of it is as said."""
    name = names.copy_name(NOW - timedelta(hours=hours_ago))
    identity = keys.new_key() if store.recipients else None
    key, last = (
        names.data_key("shop", "app", name, sealed=identity is not None),
        f"-- end of {name}",
    )
    with store.upload(key) as upload, sending.send(upload, identity) as sender:
        add_member(sender.assembly, "before-data", [b"CREATE TABLE t ();\n"])
        for number, (table_name, text) in enumerate((rows or {"public.t": b"1\n2\n"}).items()):
            pages = (number * 10, number * 10 + 10)
            member_of = table_name.rstrip("+")  # a table cut in two is told by a plus
            add_member(sender.assembly, "rows", [text], table=member_of, pages=pages)
        add_member(sender.assembly, "trailer", [last.encode() + b"\n"])
        sent = sender.finish()
        upload.commit()
    data = StoredObject(
        key=key,
        size_bytes=sent.size_bytes,
        raw_bytes=sent.assembly.raw_bytes,
        sha256=sent.sha256,
        trailer=last,
        members=tuple(sent.assembly.members),
    )
    if identity:
        keys.keep_key(store, "shop", "app", name, identity)
    facts: dict[str, Any] = {
        "data": data,
        "seal": sending.describe_seal(store, identity, sent),
        "engine": "members",
    }
    made = a_manifest(hours_ago).model_copy(update=facts | changes)
    store.put_new(names.manifest_key("shop", "app", name), made.to_json())
    return made


def flip(path: Path, at: int) -> None:
    """Change one bit of a file."""
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)
