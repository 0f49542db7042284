"""The last proof: a restored copy answers what its owner asks, and Prefect starts on its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest

from flowforge.engines.backup.dumping import dump
from flowforge.engines.backup.proving import booting, examining, indexes, proof, questions
from flowforge.engines.backup.stores.folder import FolderStore
from flowforge.engines.postgres import connection
from flowforge.engines.postgres.cluster import scratch_server
from flowforge.engines.postgres.installations import Installation
from flowforge.rules.addresses import PostgresAddress
from flowforge.rules.proofs import Answer, Level
from flowforge.rules.proving import ProofPolicy, Question
from tests.engines.conftest import installation_of

Database = Callable[..., PostgresAddress]
SHOP = """
CREATE TABLE orders (id int PRIMARY KEY, secret text);
INSERT INTO orders SELECT g, 'card 4111' FROM generate_series(1, 1200) g;
ALTER TABLE orders ENABLE ROW LEVEL SECURITY;
CREATE FUNCTION heavy() RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 1';
"""


def ask(address: PostgresAddress, sql: str, expect: str | None = None) -> Answer:
    question = Question(name="a question", sql=sql, expect=expect)
    (answer,) = questions.ask(address, address.database, 18, [question])
    return answer


@pytest.fixture
def shop(database: Database) -> PostgresAddress:
    return database(SHOP)


@pytest.mark.parametrize(
    ("sql", "expect", "answer"),
    [
        ("SELECT count(*) > 1000 FROM orders", None, "true"),
        ("SELECT count(*) FROM public.orders", ">= 1000", "1200"),
        ("SELECT max(id) FROM orders", "1200", "1200"),
        ("SELECT timestamptz '2026-11-24 06:00Z'", "> 2026-11-23", "2026-11-24 06:00:00+00:00"),
        ("SELECT null", "null", "null"),
        ("SELECT 9.50::numeric", "= 9.5", "9.50"),
    ],
)
def test_a_right_answer_is_kept_as_one_value(
    shop: PostgresAddress, sql: str, expect: str | None, answer: str
) -> None:
    found = ask(shop, sql, expect)
    assert (found.verdict, found.answer) == ("proven", answer), found.cause


@pytest.mark.parametrize(
    ("sql", "expect", "said"),
    [
        ("SELECT count(*) FROM orders", ">= 5000", "1200"),
        ("SELECT count(*) > 5000 FROM orders", None, "false"),
        ("SELECT 1", None, "1"),
        ("SELECT id, secret FROM orders", None, "2 columns, not with one value"),
        ("SELECT id FROM orders WHERE false", "1", "0 rows of 1 columns"),
        ("SELECT 1 FROM invoices", "1", 'relation "invoices" does not exist'),
    ],
)
def test_a_wrong_answer_fails_and_shows_no_row(
    shop: PostgresAddress, sql: str, expect: str | None, said: str
) -> None:
    found = ask(shop, sql, expect)
    assert found.verdict == "failed"
    assert said in (found.cause or found.answer)
    assert "4111" not in found.line()


@pytest.mark.parametrize(
    ("sql", "why"),
    [
        ("SELEC 1", "syntax error"),
        ("DELETE FROM orders RETURNING true", "denied|read-only"),
        ("SELECT true; DROP TABLE orders", "multiple commands"),
        ("COPY orders TO PROGRAM 'cat'", "denied"),
        ("SELECT pg_read_file('/etc/passwd')", "denied"),
    ],
)
def test_a_question_may_only_read(shop: PostgresAddress, sql: str, why: str) -> None:
    found = ask(shop, sql)
    assert found.verdict == "inconclusive"
    assert any(part in (found.cause or "") for part in why.split("|")), found.cause
    with connection.connect(shop) as session:
        row = session.execute("SELECT count(*) FROM public.orders").fetchone()
        roles = session.execute(
            "SELECT count(*) FROM pg_roles WHERE starts_with(rolname, 'flowforge_asks')"
        ).fetchone()
    assert (row, roles) == ((1200,), (0,))


@pytest.mark.slow
def test_a_copy_that_answers_is_proven_to_the_last_level(
    shop: PostgresAddress, store: FolderStore
) -> None:
    manifest = dump.take_copy(shop, "app", store)
    wanted = Question(name="orders", sql="SELECT count(*) FROM orders", expect=">= 1000")
    policy = ProofPolicy(questions=(wanted,))
    proven = proof.prove_by_restoring(store, manifest, policy=policy)
    assert (proven.verdict, proven.level) == ("proven", Level.ANSWERED)
    assert proven.answers[0].line() == "orders: 1200 (>= 1000) proven"
    assert "1 of 1 questions answered" in proven.summary()
    assert list(proven.phase_seconds) == ["load", "first query", "compare", "indexes", "questions"]
    assert proven.stored_bytes == manifest.data.size_bytes
    assert proven.indexes_checked == 1

    more = wanted.model_copy(update={"expect": ">= 5000"})
    failed = proof.prove_by_restoring(store, manifest, policy=ProofPolicy(questions=(more,)))
    assert (failed.verdict, failed.level) == ("failed", Level.ANSWERED)
    assert failed.cause == "orders: 1200 (>= 5000) failed"

    odd = wanted.model_copy(update={"sql": "SELEC"})
    unasked = proof.prove_by_restoring(store, manifest, policy=ProofPolicy(questions=(odd,)))
    assert (unasked.verdict, unasked.level) == ("proven", Level.COMPARED)
    assert any("could not all be asked" in remark for remark in unasked.remarks)


def test_a_broken_index_is_named(database: Database) -> None:
    target = database(
        "CREATE TABLE t (id int, v text); INSERT INTO t SELECT g, 'v' FROM generate_series(1, 9) g;"
        "CREATE INDEX by_id ON t (id); CREATE INDEX by_v ON t (v);"
        "UPDATE pg_index SET indisready = false, indisvalid = false"
        " WHERE indexrelid = 'by_id'::regclass"
    )
    with connection.connect(target) as session:
        session.execute("INSERT INTO public.t VALUES (10, 'v')")
        session.execute(
            "UPDATE pg_index SET indisready = true, indisvalid = true"
            " WHERE indexrelid = 'public.by_id'::regclass"
        )
    found = indexes.check(target, "app", until=float("inf"))
    assert found.indexes == 2
    (difference,) = found.differences
    assert difference.startswith("index public.by_id: heap tuple")
    assert "lacks matching index tuple" in difference
    assert indexes.check(target, "app", until=0).remarks[0].endswith("the time budget was spent")


def test_without_amcheck_the_indexes_are_left_out_and_said(
    bare: Installation, database: Database
) -> None:
    if (bare.bin.parent / "share/extension/amcheck.control").exists():
        pytest.skip("does not apply: this PostgreSQL has amcheck")
    with scratch_server(bare) as address:
        found = indexes.check(address, "postgres", until=float("inf"))
    assert found == (0, (), ("indexes were not checked: amcheck is not installed here",))


@pytest.mark.slow
def test_prefect_starts_on_a_copy_of_its_database_and_lists_its_runs(
    database: Database, store: FolderStore
) -> None:
    source = prefect_database(database)
    with connection.connect(source) as session:
        session.execute(
            "INSERT INTO public.flow (name) VALUES ('a flow');"
            "INSERT INTO public.flow_run (flow_id, name)"
            " SELECT id, 'run ' || g FROM public.flow, generate_series(1, 25) g"
        )
    manifest = dump.take_copy(source, "app", store)
    assert examining.read_back(store, manifest).verdict == "proven"
    assert booting.is_prefect(manifest)
    proven = proof.prove_by_restoring(store, manifest, policy=ProofPolicy(start_prefect=True))
    assert (proven.verdict, proven.level) == ("proven", Level.ANSWERED), proven.remarks
    assert proven.answers[0].answer == "25 runs"

    with connection.connect(source) as session:
        session.execute("UPDATE public.alembic_version SET version_num = 'ffffffffffff'")
    newer = booting.list_runs(source, "app")
    assert newer.verdict == "inconclusive"
    assert newer.cause == "the copy is of a newer Prefect than the one installed here"


def prefect_database(database: Database) -> PostgresAddress:
    """A database as Prefect's own command makes it."""
    source = database()
    url = f"postgresql+asyncpg://{source.user}@/app?host={quote(source.host)}&port={source.port}"
    subprocess.run(
        [sys.executable, "-m", "prefect", "server", "database", "upgrade", "-y"],
        env={"PATH": "/usr/bin:/bin", "HOME": str(Path.home())}
        | {"PREFECT_API_DATABASE_CONNECTION_URL": url},
        check=True,
        capture_output=True,
        timeout=180,
    )
    return source


def test_a_crash_of_a_tool_is_not_held_against_the_copy(
    database: Database, store: FolderStore, tmp_path: Path
) -> None:
    manifest = dump.take_copy(database(SHOP), "app", store)
    real = installation_of(18)
    crashing = tmp_path / "bin"
    crashing.mkdir()
    for program in real.bin.iterdir():
        (crashing / program.name).symlink_to(program)
    (crashing / "psql").unlink()
    (crashing / "psql").write_text("#!/bin/sh\nkill -SEGV $$\n")
    (crashing / "psql").chmod(0o755)
    there = Installation(crashing, real.major, real.version, real.has_server, "test")
    found = proof.prove_by_restoring(store, manifest, installation=there)
    assert (found.verdict, found.level) == ("inconclusive", Level.RESTORED)
    assert "psql ended with status -11" in (found.cause or "")
