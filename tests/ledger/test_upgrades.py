from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from flowforge import ledger
from flowforge.engines.postgres import installations
from flowforge.engines.postgres.cluster import Cluster, wait_until_ready
from flowforge.errors import Refused, Unavailable
from flowforge.ledger import job_tables, queries, tables, upgrades
from flowforge.rules.addresses import PostgresAddress
from tests.ledger.test_queries import a_copy

PASSWORD = "s3cret-pass@word"


def run_ledger(verb: str, url: str | None) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME")}
    if url:
        environment["FLOWFORGE_LEDGER_URL"] = url
    command = [sys.executable, "-m", "flowforge.ledger", verb]
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=60, check=False
    )


def test_the_migrations_make_exactly_the_tables_the_code_uses(ledger_url: str) -> None:
    engine = ledger.connect(ledger_url)
    with engine.connect() as connection:
        options = {
            "include_schemas": True,
            "include_name": lambda name, kind, _: kind != "schema" or name == tables.SCHEMA,
            "version_table_schema": tables.SCHEMA,
            "compare_server_default": True,
        }
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, job_tables.jobs.metadata) == []
    engine.dispose()


def test_many_may_migrate_at_once(empty_url: str) -> None:
    assert upgrades.current(empty_url) is None
    with ThreadPoolExecutor(6) as pool:
        versions = set(pool.map(ledger.migrate, [empty_url] * 6))
    assert versions == {upgrades.current(empty_url)}


def test_the_command_reads_the_url_from_the_environment_and_says_the_version(
    empty_url: str,
) -> None:
    assert run_ledger("current", empty_url).stdout == "no tables\n"
    spelled = empty_url.replace("postgresql://", "postgresql+asyncpg://")
    assert run_ledger("upgrade", spelled).stdout == "0003\n"
    assert run_ledger("current", empty_url).stdout == "0003\n"
    unset = run_ledger("upgrade", None)
    assert unset.returncode == 3
    assert "FLOWFORGE_LEDGER_URL" in unset.stderr


def test_a_ledger_of_a_newer_flowforge_is_refused(empty_url: str) -> None:
    ledger.migrate(empty_url)
    engine = ledger.connect(empty_url)
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE flowforge.alembic_version SET version_num = '9999'"))
    engine.dispose()
    with pytest.raises(Refused, match="9999"):
        ledger.migrate(empty_url)


def test_missing_tables_are_refused_with_the_command_that_makes_them(empty_url: str) -> None:
    engine = ledger.connect(empty_url)
    with pytest.raises(Refused, match=r"flowforge\.ledger upgrade"):
        queries.list_copies(engine)
    engine.dispose()


def test_a_role_with_the_least_rights_can_do_all_but_change_tables(
    postgres: PostgresAddress, empty_url: str
) -> None:
    ledger.migrate(empty_url)
    limited_url = empty_url.replace("//postgres@", "//limited@")
    owner = ledger.connect(empty_url)
    with owner.begin() as connection:
        connection.execute(sa.text("CREATE ROLE limited LOGIN"))
    limited = ledger.connect(limited_url)
    with pytest.raises(Refused, match="Grant the role"):
        queries.record_copy(limited, a_copy())
    with owner.begin() as connection:
        connection.execute(sa.text("GRANT USAGE ON SCHEMA flowforge TO limited"))
        connection.execute(
            sa.text(
                "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA flowforge TO limited"
            )
        )
    assert ledger.migrate(limited_url) == "0003"
    queries.record_copy(limited, a_copy())
    queries.replace_catalogue(limited, "backups", [a_copy()], [])
    assert queries.list_copies(limited) == [a_copy()]
    limited.dispose()
    with owner.begin() as connection:
        connection.execute(sa.text("DROP OWNED BY limited"))
        connection.execute(sa.text("DROP ROLE limited"))
    owner.dispose()


def test_a_server_that_is_away_is_unavailable_and_its_password_stays_secret() -> None:
    url = f"postgresql://someone:{quote(PASSWORD)}@127.0.0.1:1/flowforge"
    engine = ledger.connect(url)
    with pytest.raises(Unavailable) as caught:
        queries.list_copies(engine)
    assert "someone@127.0.0.1:1/flowforge" in str(caught.value)
    assert PASSWORD not in f"{caught.value!r} {caught.value.__cause__!r} {engine!r}"


def test_a_wrong_password_is_refused_and_stays_secret(tmp_path: Path) -> None:
    installation = installations.newest_server()
    cluster = Cluster(installation, tmp_path / "data", tmp_path, settings={"listen_addresses": ""})
    cluster.create("the right one")
    with subprocess.Popen(cluster.start_command(), stderr=subprocess.DEVNULL) as process:
        try:
            address = cluster.address("here", "the right one")
            wait_until_ready(address, process)
            host = quote(address.host, safe="")
            url = f"postgresql://postgres:{quote(PASSWORD)}@/postgres?host={host}&port=5432"
            with pytest.raises(Refused) as caught:
                ledger.migrate(url)
            said = run_ledger("upgrade", url)
        finally:
            process.kill()  # what it runs in a namespace dies along
    assert PASSWORD not in f"{caught.value!r} {caught.value.__cause__!r}"
    assert said.returncode == 3
    assert PASSWORD not in said.stderr and quote(PASSWORD) not in said.stderr
