"""`python -m flowforge.breakglass`, with nothing there but a store and a server."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flowforge.engines.backup.dumping.dump import take_copy
from flowforge.engines.backup.proving import examining
from flowforge.engines.backup.shelf import catalogue
from flowforge.engines.backup.stores.folder import FolderStore
from flowforge.engines.postgres.connection import connect
from flowforge.rules.addresses import PostgresAddress
from flowforge.rules.backups import Level

SCHEMA = """
CREATE TABLE orders (id int PRIMARY KEY, note text);
INSERT INTO orders SELECT g, 'n' || g FROM generate_series(1, 500) g;
"""


@pytest.fixture
def app(database: Callable[..., PostgresAddress]) -> PostgresAddress:
    return database(SCHEMA)


def url_of(address: PostgresAddress) -> str:
    return f"postgresql://{address.user}@/{address.database}?host={address.host}"


def breakglass(
    *words: str, url: str = "", stdin: str = "", **environment: str
) -> subprocess.CompletedProcess[str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return subprocess.run(
        [sys.executable, "-m", "flowforge.breakglass", *words],
        env={**kept, "TARGET_URL": url, **environment},
        input=stdin,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def answer(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["schema"] == 1
    return found


def count(address: PostgresAddress, database: str) -> int:
    with connect(address, database) as session:
        row = session.execute("SELECT count(*) FROM public.orders").fetchone()
    assert row is not None
    return int(row[0])


def test_it_imports_without_prefect() -> None:
    blocked = (
        "import sys; sys.modules['prefect'] = None; import flowforge.breakglass.commands;"
        "print('imported')"
    )
    done = subprocess.run(
        [sys.executable, "-c", blocked], capture_output=True, text=True, check=False
    )
    assert done.stdout == "imported\n", done.stderr


def test_a_lost_database_is_listed_verified_restored_and_taken_back(
    app: PostgresAddress, store: FolderStore
) -> None:
    manifest = take_copy(app, "app", store)
    with connect(app) as session:
        session.execute("DELETE FROM public.orders WHERE id > 7")
    place = ("--store", str(store.folder))

    listed = answer(breakglass("list", *place, "--json"))
    assert [copy["name"] for copy in listed["copies"]] == [manifest.name]
    verified = breakglass("verify", *place, "--restore", "--json")
    assert answer(verified)["proof"]["verdict"] == "proven"
    assert answer(verified)["proof"]["level"] == 3

    words = ("restore", *place, "--copy", "latest", "--url-env", "TARGET_URL")
    asked = breakglass(*words, url=url_of(app))
    assert asked.returncode == 3
    assert "Nobody is here to agree to the plan" in asked.stderr
    assert count(app, "app") == 7
    done = breakglass(*words, "--yes", "--json", url=url_of(app))
    assert done.returncode == 0, done.stderr
    assert count(app, "app") == 500

    undone = breakglass("undo", answer(done)["restore_id"], "--as", "app", stdin=url_of(app) + "\n")
    assert undone.returncode == 0, undone.stderr
    assert count(app, "app") == 7


@pytest.mark.slow
def test_what_was_ordered_is_restored_once_and_a_new_order_once_more(
    app: PostgresAddress, store: FolderStore
) -> None:
    take_copy(app, "app", store)
    words = ("restore", "--store", str(store.folder), "--copy", "latest", "--url-env", "TARGET_URL")

    first = breakglass(*words, "--yes", "--once", "job 1", "--json", url=url_of(app))
    again = breakglass(*words, "--yes", url=url_of(app), FLOWFORGE_ONCE="job 1")
    other = breakglass(*words, "--yes", "--once", "job 2", "--json", url=url_of(app))

    assert [done.returncode for done in (first, again, other)] == [0, 0, 0], again.stderr
    assert f"restore {answer(first)['restore_id']}" in again.stdout
    assert answer(first)["kept_as"] in again.stdout
    assert answer(other)["restore_id"] != answer(first)["restore_id"]
    undone = breakglass("undo", answer(other)["restore_id"], "--as", "app", stdin=url_of(app))
    assert undone.returncode == 0, undone.stderr


def test_a_plan_that_changed_is_not_done(app: PostgresAddress, store: FolderStore) -> None:
    take_copy(app, "app", store)
    words = ("restore", "--store", str(store.folder), "--copy", "latest", "--plan", "0123456789ab")
    done = breakglass(*words, "--url-env", "TARGET_URL", url=url_of(app))
    assert done.returncode == 3
    assert "not 0123456789ab" in done.stderr


def test_only_a_compared_copy_is_restored_unless_another_is_named(
    app: PostgresAddress, store: FolderStore
) -> None:
    take_copy(app, "app", store)
    done = breakglass(
        "restore", "--store", str(store.folder), "--url-env", "TARGET_URL", url=url_of(app)
    )
    assert done.returncode == 3
    assert "No usable copy was ever compared" in done.stderr


def test_a_newer_copy_that_was_never_compared_is_named(
    app: PostgresAddress, store: FolderStore
) -> None:
    first = take_copy(app, "app", store)
    read = examining.read_back(store, first)
    catalogue.add_proof(store, first, read.model_copy(update={"level": Level.COMPARED}))
    place = ("--store", str(store.folder), "--url-env", "TARGET_URL")
    assert "newer" not in breakglass("restore", *place, url=url_of(app)).stderr
    second = take_copy(app, "app", store)
    done = breakglass("restore", *place, url=url_of(app))
    assert f"note: {second.name} is newer" in done.stderr
    assert "Nobody is here to agree" in done.stderr


def test_a_copy_is_taken_only_when_no_younger_one_is_there(
    app: PostgresAddress, store: FolderStore
) -> None:
    store.folder.mkdir()
    words = ["backup", "--store", str(store.folder), "--server", "shop", "--url-env", "TARGET_URL"]
    words += ["--if-older-than", "7h", "--json"]
    first = answer(breakglass(*words, url=url_of(app)))
    assert first["proof"]["verdict"] == "proven"
    second = answer(breakglass(*words, url=url_of(app)))
    assert second["copy"] is None
    assert "old" in second["skipped"]
    assert len(answer(breakglass("list", "--store", str(store.folder), "--json"))["copies"]) == 1


def test_a_running_backup_is_no_failure(app: PostgresAddress, store: FolderStore) -> None:
    store.folder.mkdir()
    words = ("backup", "--store", str(store.folder), "--server", "shop", "--url-env", "TARGET_URL")
    with connect(app) as session:
        session.execute("SELECT pg_advisory_lock(hashtextextended('flowforge.backup', 0))")
        done = breakglass(*words, url=url_of(app))
    assert done.returncode == 0, done.stderr
    assert "Nothing to do: Another backup" in done.stdout


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("list", "--store", "/nowhere"), 3, "is not a folder"),
        (("list", "--store", "s3://key:secret@bucket"), 3, "AWS_ACCESS_KEY_ID"),
        (("list",), 64, "Missing option"),
        (("restore", "--store", "."), 3, "No usable copy was ever compared"),
        (("backup", "--store", ".", "--server", "shop", "--if-older-than", "soon"), 3, "7h or 2d"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    words: tuple[str, ...], code: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = breakglass(*words)
    assert done.returncode == code, done.stderr
    assert "secret@" not in done.stderr
    assert re.search(said, done.stderr), done.stderr
