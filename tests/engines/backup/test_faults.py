"""Whatever is killed, full or forbidden: no copy that claims to exist, older ones untouched, and
the next run is clean."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import psycopg
import pytest

from flowforge.engines.backup import steps
from flowforge.engines.backup.dumping import dump
from flowforge.engines.backup.proving import examining, proof
from flowforge.engines.backup.restoring import restore
from flowforge.engines.backup.shelf import catalogue
from flowforge.engines.backup.stores.folder import FolderStore
from flowforge.engines.postgres import connection
from flowforge.engines.postgres.installations import Installation
from flowforge.errors import FlowForgeError, Refused, Unavailable
from flowforge.rules.addresses import PostgresAddress

Database = Callable[..., PostgresAddress]
SMALL = "CREATE TABLE t AS SELECT g AS id FROM generate_series(1, 1000) g"
LARGE = (
    "CREATE TABLE t AS SELECT g AS id, md5(g::text) || md5(g::text) AS v"
    " FROM generate_series(1, 400000) g"
)

# What a flow does, in a process of its own that can be killed.
BACK_UP = """
import sys
from pathlib import Path
from flowforge.engines.backup.dumping import dump
from flowforge.engines.backup.proving import examining, proof
from flowforge.engines.backup.shelf import catalogue, forget, inventory
from flowforge.engines.backup.stores.folder import FolderStore
from flowforge.rules.addresses import PostgresAddress
address = PostgresAddress.model_validate_json(sys.argv[1])
store = FolderStore("backups", Path(sys.argv[2]))
manifest = dump.take_copy(address, address.database, store)
catalogue.add_proof(store, manifest, examining.read_back(store, manifest))
catalogue.add_proof(store, manifest, proof.prove_by_restoring(store, manifest))
older = [c.name for c in catalogue.list_copies(store, address.name, address.database)][2:]
found = inventory.take(store, address.name, address.database)
forget.forget(store, found, older)
forget.sweep(store, address.name, address.database)
"""
RESTORE = """
import sys
from pathlib import Path
from flowforge.engines.backup.restoring import restore
from flowforge.engines.backup.shelf import catalogue
from flowforge.engines.backup.stores.folder import FolderStore
from flowforge.rules.addresses import PostgresAddress
address = PostgresAddress.model_validate_json(sys.argv[1])
store = FolderStore("backups", Path(sys.argv[2]))
copy = catalogue.list_copies(store, address.name, address.database)[-1]
manifest = catalogue.load_manifest(store, copy.server, copy.database, copy.name)
plan = restore.plan(store, manifest, copy, address, "app")
agreed = sys.argv[3] if len(sys.argv) > 3 else plan.digest
restore.apply(store, manifest, address, plan, agreed)
"""


def run(script: str, address: PostgresAddress, store: FolderStore, at: str = "", *more: str) -> int:
    environment = {**os.environ, "FLOWFORGE_KILL_AT": at}
    command = [sys.executable, "-c", script, address.model_dump_json(), str(store.folder), *more]
    return subprocess.run(command, env=environment, check=False, timeout=120).returncode


def leftovers(address: PostgresAddress, store: FolderStore) -> dict[str, object]:
    """What must be nothing after a clean run."""
    with connection.connect(address, "postgres") as session:
        locks = session.execute(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
        ).fetchone()
        sides = session.execute(
            "SELECT datname FROM pg_database WHERE datname LIKE '%\\_\\_restore\\_%'"
        ).fetchall()
    manifests = {p.name.split(".")[0] for p in store.folder.rglob("backup-*.manifest.json")}
    data = {p.name.split(".")[0] for p in store.folder.rglob("backup-*.sql.gz")}
    return {
        "uploads": list(store.folder.rglob(".upload-*")),
        "locks": locks[0] if locks else None,
        "side databases": sides,
        "manifests without data": manifests - data,
    }


CLEAN = {"uploads": [], "locks": 0, "side databases": [], "manifests without data": set()}


def some_now(every: Sequence[str], *now: str) -> list[object]:
    """All steps, of which most wait for `make test-all`."""
    return [step if step in now else pytest.param(step, marks=pytest.mark.slow) for step in every]


@pytest.mark.parametrize("step", some_now(steps.BACKUP, "manifest"))
def test_a_backup_killed_at_any_step_leaves_a_copy_or_none_and_the_next_one_is_clean(
    database: Database, store: FolderStore, step: str
) -> None:
    source = database(SMALL)
    assert run(BACK_UP, source, store, step) == -9
    committed = catalogue.list_copies(store, "shop", "app") if store.folder.exists() else []
    after_commit = steps.BACKUP.index(step) >= steps.BACKUP.index("manifest")
    assert len(committed) == (1 if after_commit else 0)
    for copy in committed:
        manifest = catalogue.load_manifest(store, "shop", "app", copy.name)
        assert examining.read_back(store, manifest).verdict == "proven"

    assert run(BACK_UP, source, store) == 0
    assert leftovers(source, store) == CLEAN
    assert len(catalogue.list_copies(store, "shop", "app")) == len(committed) + 1


@pytest.mark.parametrize("step", some_now(steps.FORGET))
def test_forgetting_killed_at_any_step_never_leaves_a_copy_without_data(
    database: Database, store: FolderStore, step: str
) -> None:
    source = database(SMALL)
    for _ in range(3):
        dump.take_copy(source, "app", store)
    assert run(BACK_UP, source, store, step) == -9
    assert leftovers(source, store)["manifests without data"] == set()
    assert run(BACK_UP, source, store) == 0
    assert leftovers(source, store) == CLEAN
    assert len(catalogue.list_copies(store, "shop", "app")) == 2


@pytest.mark.parametrize("step", some_now(steps.RESTORE, "swap"))
def test_a_restore_killed_at_any_step_is_finished_by_the_next_one(
    database: Database, store: FolderStore, step: str
) -> None:
    source = database(SMALL)
    manifest = dump.take_copy(source, "app", store)
    (copy,) = catalogue.list_copies(store, "shop", "app")
    agreed = restore.plan(store, manifest, copy, source, "app").digest
    with connection.connect(source) as session:
        session.execute("DELETE FROM public.t WHERE id > 1")
    assert run(RESTORE, source, store, step, agreed) == -9
    assert run(RESTORE, source, store, "", agreed) == 0
    assert leftovers(source, store) == CLEAN
    with connection.connect(source) as session:
        row = session.execute("SELECT count(*) FROM public.t").fetchone()
        assert row == (1000,)
        kept = session.execute(
            "SELECT count(*) FROM pg_database"
            " WHERE datname LIKE 'app\\_\\_before%' AND datallowconn"
        ).fetchone()
        assert kept == (1,)


def test_a_wrong_password_is_refused_with_the_command_that_mends_it(
    database: Database, store: FolderStore
) -> None:
    source = database(SMALL)
    hba = Path(source.host) / "data" / "pg_hba.conf"
    before = hba.read_text()
    with connection.connect(source, "postgres") as session:
        session.execute("DROP ROLE IF EXISTS locked")
        session.execute("CREATE ROLE locked LOGIN PASSWORD 'right one'")
        hba.write_text("local all locked scram-sha-256\n" + before)
        session.execute("SELECT pg_reload_conf()")
    try:
        guess = PostgresAddress.model_validate(
            source.model_dump() | {"user": "locked", "password": "hunter2"}
        )
        with pytest.raises(Refused, match="flowforge database add shop") as refused:
            dump.take_copy(guess, "app", store)
        assert "hunter2" not in repr(refused.value) + repr(refused.value.__cause__)
    finally:
        hba.write_text(before)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("a full disk is a small tmpfs, which only root can mount: run as root")
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_refused_and_leaves_nothing(database: Database, small_disk: Path) -> None:
    store = FolderStore("backups", small_disk / "copies")
    older = dump.take_copy(database(SMALL, name="app2"), "app2", store)
    with pytest.raises(Refused, match="is full"):
        dump.take_copy(database(LARGE), "app", store)
    assert [p for p in store.folder.rglob("*") if p.is_file() and "app2" not in str(p)] == []
    assert examining.read_back(store, older).verdict == "proven"


def damage(store: FolderStore, change: Callable[[bytearray], object]) -> None:
    (path,) = store.folder.rglob("backup-*.sql.gz")
    content = bytearray(path.read_bytes())
    change(content)
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (lambda b: b.pop(), "the store holds"),
        (lambda b: b.extend(b"\x1f\x8b"), "the store holds"),
        (lambda b: b.__setitem__(len(b) // 2, b[len(b) // 2] ^ 1), "damaged"),
        (lambda b: b.__setitem__(slice(0, 4), b"junk"), "gzip is broken"),
    ],
    ids=["cut by a byte", "grown by a member", "one bit flipped", "not gzip"],
)
def test_a_damaged_object_is_never_given_to_a_server(
    database: Database,
    store: FolderStore,
    change: Callable[[bytearray], object],
    cause: str,
) -> None:
    manifest = dump.take_copy(database(SMALL), "app", store)
    damage(store, change)
    read = examining.read_back(store, manifest)
    assert read.verdict == "failed"
    assert cause in (read.cause or "")
    proven = proof.prove_by_restoring(store, manifest)
    assert proven.verdict == "failed"
    catalogue.add_proof(store, manifest, read)
    (copy,) = catalogue.list_copies(store, "shop", "app")
    assert copy.failed
    assert catalogue.newest_copy([copy]) is None


def test_an_extension_missing_here_is_inconclusive_not_failed(
    database: Database, store: FolderStore, bare: Installation
) -> None:
    source = database("CREATE EXTENSION pg_trgm; " + SMALL, major=15)
    manifest = dump.take_copy(source, "app", store)
    proven = proof.prove_by_restoring(store, manifest, installation=bare)
    assert (proven.verdict, proven.level.label) == ("inconclusive", "L2")
    assert "not installed" in (proven.cause or "")


def test_a_server_nobody_answers_at_is_unavailable(store: FolderStore) -> None:
    nobody = PostgresAddress(name="shop", host="127.0.0.1", port=1, user="u", database="app")
    with pytest.raises(Unavailable, match="did not answer") as failure:
        dump.take_copy(nobody, "app", store)
    assert isinstance(failure.value, FlowForgeError)
    assert isinstance(failure.value.__cause__, psycopg.Error)
