from __future__ import annotations

from pathlib import Path

import pytest
from prefect.client.orchestration import get_client

from blocks.postgres import PostgresServer
from flowforge import ledger
from flowforge.engines.postgres.connection import connect
from flowforge.errors import Refused
from flowforge.ledger import queries
from flowforge.rules.addresses import PostgresAddress
from flowforge.rules.backups import Copy, Level
from flows.backup import backup_postgres


def test_a_backup_is_proven_row_for_row_and_recorded(
    shop: PostgresAddress, ledger_url: str, tmp_path: Path
) -> None:
    copy = backup_postgres(server="shop")
    assert isinstance(copy, Copy)
    assert copy.level == Level.COMPARED
    assert copy.rows == 500
    folder = tmp_path / "backups" / "postgres" / "shop" / "app"
    assert (folder / f"{copy.name}.sql.gz").stat().st_size == copy.size_bytes
    engine = ledger.connect(ledger_url, pooled=False)
    assert queries.list_copies(engine, "shop", "app") == [copy]
    operation = queries.list_operations(engine, "backup", 1)[0]
    assert operation.outcome == "done"
    assert operation.evidence.startswith("proven L3: 1 tables compared, 500 rows")


def test_the_report_says_what_was_proven_and_how_to_restore_it(shop: PostgresAddress) -> None:
    copy = backup_postgres(server="shop")
    assert isinstance(copy, Copy)
    with get_client(sync_client=True) as client:
        response = client.request(
            "GET", "/artifacts/{key}/latest", path_params={"key": "backup-shop-app"}
        )
    text = response.json()["data"]
    assert "proven L3: 1 tables compared, 500 rows" in text
    assert f"flowforge restore plan shop app --copy {copy.name}" in text


def test_an_unknown_server_is_refused_with_the_names_there_are(shop: PostgresAddress) -> None:
    with pytest.raises(Refused, match=r"registered are: .*shop"):
        backup_postgres(server="nobody")


def test_a_password_in_a_parameter_is_refused_and_not_repeated(shop: PostgresAddress) -> None:
    with pytest.raises(Refused, match="flowforge database add") as refused:
        backup_postgres(server="postgresql://u:hunter2@h/db")
    assert "hunter2" not in str(refused.value)


def test_a_missing_right_is_refused_by_the_table_s_name(
    shop: PostgresAddress, tmp_path: Path
) -> None:
    with connect(shop) as session:
        session.execute("DROP ROLE IF EXISTS reader")
        session.execute("CREATE ROLE reader LOGIN")
    limited = shop.model_copy(update={"user": "reader"})
    PostgresServer.of(limited).save("limited", overwrite=True)
    with pytest.raises(Refused, match=r"may not read public\.orders"):
        backup_postgres(server="limited", database="app")
    assert list((tmp_path / "backups").iterdir()) == []


def test_a_backup_that_meets_a_running_one_is_skipped(shop: PostgresAddress) -> None:
    with connect(shop) as session:
        session.execute("SELECT pg_advisory_lock(hashtextextended('flowforge.backup', 0))")
        state = backup_postgres(server="shop", return_state=True)
    assert state.name == "Skipped"
    assert state.is_completed()
