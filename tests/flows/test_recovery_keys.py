"""Sealed copies from the first backup to the rotation of their keys, as operations run it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from prefect.client.orchestration import get_client
from pydantic import SecretStr
from pyrage.x25519 import Identity

from blocks.recovery import BackupKey
from blocks.storage import BackupStore
from flowforge import ledger
from flowforge.engines.backup.seals import keys
from flowforge.errors import Refused
from flowforge.ledger import queries
from flowforge.rules.addresses import PostgresAddress
from flowforge.rules.backups import Copy, Level, Proof
from flows.backup import backup_postgres
from flows.recovery_keys import recovery_keys


def seal_to(folder: Path, *recipients: Identity) -> None:
    public = [str(one.to_public()) for one in recipients]
    BackupStore(folder=str(folder), recipients=public).save("backups", overwrite=True)


def evidence(ledger_url: str) -> str:
    return queries.list_operations(ledger.connect(ledger_url, pooled=False), None, 1)[0].evidence


@pytest.fixture
def key_saved_late() -> Iterator[Identity]:
    yield Identity.generate()
    with get_client(sync_client=True) as client:
        for document in client.read_block_documents_by_type("flowforge-backup-key"):
            client.delete_block_document(document.id)


@pytest.mark.slow
@pytest.mark.filterwarnings('ignore:Field name "copy"')
def test_a_sealed_copy_is_proven_drilled_with_a_key_and_wrapped_to_a_new_one(
    shop: PostgresAddress,
    ledger_url: str,
    tmp_path: Path,
    key_saved_late: Identity,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from flows.restore_drill import restore_drill  # Prefect warns of its parameter's name

    daily, new, safe = key_saved_late, Identity.generate(), Identity.generate()
    seal_to(tmp_path / "backups", daily, safe)
    copy = backup_postgres(server="shop")
    assert isinstance(copy, Copy) and copy.level == Level.COMPARED

    monkeypatch.setattr(keys, "_written", {})  # a drill runs in another process
    blind = restore_drill(server="shop", copy="latest")
    assert isinstance(blind, Proof) and blind.verdict == "inconclusive"
    seal_to(tmp_path / "backups", new, safe)
    with pytest.raises(Refused, match="no key here opens 1 copies"):
        recovery_keys(action="rewrap")

    BackupKey(key=SecretStr(str(daily))).save("drills", overwrite=True)
    drilled = restore_drill(server="shop", copy="latest")
    assert isinstance(drilled, Proof) and drilled.verdict == "proven"
    recovery_keys()
    assert evidence(ledger_url).endswith("of 1 retired ones 0 may be thrown away")
    recovery_keys(action="rewrap")
    assert evidence(ledger_url).startswith(
        "1 keys wrapped again; copies in backups are sealed to 2"
    )
    assert evidence(ledger_url).endswith("of 1 retired ones 1 may be thrown away")

    with get_client(sync_client=True) as client:
        place = {"key": "keys-backups"}
        report = client.request("GET", "/artifacts/{key}/latest", path_params=place).json()["data"]
    assert f"| {daily.to_public()} | 1 copies | 0 copies | may be thrown away |" in report
    assert "AGE-SECRET-KEY" not in everything_written(ledger_url) + report


def everything_written(ledger_url: str) -> str:
    engine = ledger.connect(ledger_url, pooled=False)
    with engine.connect() as session:
        tables = sa.inspect(engine).get_table_names()
        return str([session.execute(sa.text(f'SELECT * FROM "{t}"')).fetchall() for t in tables])
