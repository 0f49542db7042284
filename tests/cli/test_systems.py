"""Systems are saved under names, and their secrets go nowhere else."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import psutil
import pytest

from flowforge import ledger
from flowforge.engines.backup.stores.folder import FolderStore
from flowforge.engines.postgres import installations
from flowforge.engines.postgres.cluster import scratch_server
from flowforge.engines.postgres.connection import connect
from flowforge.ledger import queries
from flowforge.rules import names
from flowforge.rules.addresses import PostgresAddress
from tests.cli.conftest import Command
from tests.client.values import a_manifest, a_proof
from tests.faults.buckets import SECRET, admin, make_bucket, serve_buckets


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresAddress]:
    with scratch_server(installations.newest_server()) as address:
        with connect(address) as session:
            session.execute("CREATE ROLE app LOGIN PASSWORD 'h/u@s:h'")
            session.execute("CREATE DATABASE app OWNER app")
        yield address


def url_of(postgres: PostgresAddress, database: str = "app") -> str:
    host = quote(postgres.host, safe="")
    secret = quote("h/u@s:h", safe="")
    return f"postgresql+asyncpg://app:{secret}@/{database}?host={host}&port={postgres.port}"


def test_a_database_is_tried_saved_listed_tested_and_removed(
    connected: Command, postgres: PostgresAddress
) -> None:
    added = connected("database", "add", "till", stdin=url_of(postgres) + "\n")
    assert added.code == 0, added.err
    assert "PostgreSQL" not in added.err
    assert "flowforge backup run till" in added.out
    version = installations.newest_server().version
    assert version in added.out

    listed = connected("database", "list", "--json").json["servers"]
    assert [one["name"] for one in listed] == ["till"]
    tested = connected("database", "test", "till", "--json").json
    assert (tested["ok"], tested["database"]) == (True, "app")
    removed = connected("database", "remove", "till")
    again = connected("database", "remove", "till")
    assert (removed.code, again.code) == (0, 3)
    for said in (added, removed, again):
        assert "h/u@s:h" not in said.out + said.err
        assert quote("h/u@s:h", safe="") not in said.out + said.err


def test_a_database_that_says_no_is_not_saved(
    connected: Command, postgres: PostgresAddress
) -> None:
    said = connected("database", "add", "till", stdin=url_of(postgres, "no such database"))
    assert said.code == 3
    assert "has no database" in said.err
    assert connected("database", "list", "--json").json["servers"] == []


@pytest.mark.slow
def test_no_process_has_the_secret_in_its_arguments(connected: Command) -> None:
    seen: list[str] = []
    done = threading.Event()

    def watch() -> None:
        while not done.is_set():
            for process in psutil.process_iter(["cmdline"]):
                seen.extend(process.info["cmdline"] or [])

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        words = ["notify", "add", "team", "--slack", "--url-env", "HOOK"]
        said = connected(*words, HOOK="http://127.0.0.1:9/very-hushed")
    finally:
        done.set()
        watcher.join()
    assert said.code == 0, said.err
    assert "blocks" in seen
    assert not [word for word in seen if "very-hushed" in word]
    assert connected("notify", "remove", "team").code == 0


@pytest.mark.slow
def test_a_store_is_saved_by_its_whole_path(connected: Command, tmp_path: Path) -> None:
    (tmp_path / "kept copies").mkdir()
    said = connected("store", "add", "attic", "--folder", "kept copies", "--json")
    assert said.json["action"] == "created"
    assert connected("store", "test", "attic").code == 0
    assert connected("store", "remove", "attic").code == 0


@pytest.fixture(scope="module")
def buckets() -> Iterator[str]:
    with serve_buckets() as url:
        yield url


@pytest.mark.slow
def test_a_bucket_is_tried_saved_listed_and_tested_and_its_secret_never_shown(
    connected: Command, buckets: str
) -> None:
    place = make_bucket(buckets)
    words = ["store", "add", "cellar", "--s3", place.bucket, "--prefix", "kept"]
    words += ["--endpoint", buckets, "--key-id-env", "KEY_ID", "--secret-env", "KEY"]
    added = connected(*words, KEY_ID="AKIDEXAMPLE", KEY=SECRET)
    assert added.code == 0, added.err
    listed = connected("store", "list", "--json")
    assert f"s3://{place.bucket}/kept/" in [one["where"] for one in listed.json["stores"]]
    tested = connected("store", "test", "cellar", "--json")
    assert (tested.json["ok"], tested.json["problems"]) == (True, [])
    assert connected("store", "remove", "cellar").code == 0
    left = [one["Key"] for one in admin(buckets).list_objects_v2(Bucket=place.bucket)["Contents"]]
    assert left == ["kept/flowforge-store"]
    for said in (added, listed, tested):
        assert SECRET not in said.out + said.err


@pytest.mark.slow
def test_a_bucket_that_says_no_is_not_saved(connected: Command, buckets: str) -> None:
    keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    said = connected("store", "add", "cellar", "--s3", "never-made", "--endpoint", buckets, **keys)
    assert said.code == 3 and "no bucket never-made" in said.err
    half = connected(
        "store", "add", "cellar", "--s3", "b-made", "--key-id-env", "KEY_ID", KEY_ID="a"
    )
    assert half.code == 3 and "--secret-env" in half.err
    assert connected("store", "list", "--json").json["stores"] == []


def test_a_lost_ledger_is_made_again_from_the_store(
    flowforge: Command, postgres: PostgresAddress, tmp_path: Path
) -> None:
    with connect(postgres) as session:
        session.execute("CREATE DATABASE ledger OWNER app")
    url = url_of(postgres, "ledger")
    store = FolderStore("backups", tmp_path / "copies")
    manifest, proof = a_manifest(), a_proof()
    store.put_new(names.manifest_key("shop", "app", manifest.name), manifest.to_json())
    key = names.proof_key("shop", "app", manifest.name, proof.mark)
    store.put_new(key, proof.to_json())
    words = ["ledger", "rebuild", "--store", "backups", "--folder", str(tmp_path / "copies")]
    said = flowforge(*words, "--json", FLOWFORGE_LEDGER_URL=url)
    assert said.code == 0, said.err
    assert said.json["stores"] == [{"store": "backups", "copies": 1, "proofs": 1}]
    engine = ledger.connect(url)
    assert [(copy.name, copy.level) for copy in queries.list_copies(engine)] == [(manifest.name, 3)]
    engine.dispose()
