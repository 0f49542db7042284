"""A second store holds the same bytes, keeps its own time, and never stands in a backup's way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from pyrage.x25519 import Identity

from flowforge.engines.backup import steps
from flowforge.engines.backup.proving import examining
from flowforge.engines.backup.shelf import catalogue, inventory, mirror
from flowforge.engines.backup.stores.folder import FolderStore
from flowforge.engines.backup.stores.store import Store
from flowforge.rules import names
from flowforge.rules.backups import Level, Manifest
from flowforge.rules.proofs import Proof, Verdict
from flowforge.rules.retention import Retention
from tests.engines.backup.copies import NOW, flip, keep_copy, put
from tests.faults.buckets import make_bucket, open_quickly
from tests.ports import free_port


@pytest.fixture
def first(tmp_path: Path) -> FolderStore:
    return FolderStore("first", tmp_path / "first")


@pytest.fixture(params=["folder", "s3"])
def second(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "folder":
        return folder(tmp_path / "second")
    url: str = request.getfixturevalue("buckets")
    return open_quickly(make_bucket(url, prefix="mirror/"))


def folder(place: Path) -> FolderStore:
    place.mkdir()
    return FolderStore("second", place)


def contents(store: Store) -> dict[str, bytes]:
    return {
        stored.key: catalogue.read_small(store, stored.key) for stored in store.listing("postgres/")
    }


def prove(store: Store, made: Manifest, verdict: Verdict, level: int) -> None:
    proof = Proof(
        copy_name=made.name, level=Level(level), verdict=verdict, checked_at=NOW, seconds=1
    )
    catalogue.add_proof(store, made, proof)


def test_a_second_store_of_any_kind_gets_the_same_bytes(first: FolderStore, second: Store) -> None:
    made = [keep_copy(first, hours) for hours in (12, 6, 0)]
    prove(first, made[0], "proven", 3)

    caught = mirror.catch_up(first, second, "shop", "app")

    assert caught.copied == [one.name for one in reversed(made)]
    assert (caught.behind, caught.damaged, caught.why) == ([], {}, None)
    assert caught.newest_at == made[-1].snapshot_at
    assert contents(second) == contents(first)
    assert examining.read_back(second, made[0]).verdict == "proven"
    levels = {copy.name: copy.level for copy in catalogue.list_copies(second, "shop", "app")}
    assert levels[made[0].name] == Level.COMPARED
    assert mirror.catch_up(first, second, "shop", "app").copied == []


def test_from_a_bucket_to_a_folder_and_sealed_it_is_the_same(buckets: str, tmp_path: Path) -> None:
    recipients = tuple(str(Identity.generate().to_public()) for _ in range(2))
    first = open_quickly(make_bucket(buckets), recipients=recipients)
    second = folder(tmp_path / "second")
    made = keep_copy(first, 0)

    assert mirror.catch_up(first, second, "shop", "app").copied == [made.name]

    assert contents(second) == contents(first)
    assert any("/keys/" in key for key in contents(second))


def test_a_second_store_that_is_down_is_behind_and_catches_up_later(
    first: FolderStore, tmp_path: Path
) -> None:
    place = tmp_path / "second"
    second = FolderStore("second", place)
    made = [keep_copy(first, hours) for hours in (6, 0)]

    down = mirror.catch_up(first, second, "shop", "app")
    assert down.why and "is not there" in down.why
    assert (down.copied, down.behind) == ([], [made[1].name, made[0].name])
    assert down.newest_at is None

    place.mkdir()
    up = mirror.catch_up(first, second, "shop", "app", most=1)
    assert (up.copied, up.behind) == ([made[1].name], [made[0].name])
    assert up.newest_at == made[1].snapshot_at
    assert mirror.catch_up(first, second, "shop", "app").copied == [made[0].name]


def test_a_bucket_that_does_not_answer_is_behind_within_seconds(
    first: FolderStore, buckets: str
) -> None:
    address = make_bucket(buckets)
    made = keep_copy(first, 0)
    nobody = f"http://127.0.0.1:{free_port()}"

    down = mirror.catch_up(first, open_quickly(address, endpoint_url=nobody), "shop", "app")
    assert down.why and "Hint:" in down.why
    assert "very-secret" not in down.why
    assert (down.copied, down.behind) == ([], [made.name])

    up = mirror.catch_up(first, open_quickly(address), "shop", "app")
    assert (up.copied, up.behind) == ([made.name], [])


def test_what_is_damaged_in_the_first_store_is_brought_nowhere(
    first: FolderStore, tmp_path: Path
) -> None:
    second = folder(tmp_path / "second")
    bad, known, good = (keep_copy(first, hours) for hours in (0, 6, 12))
    flip(first.folder / bad.data.key, bad.data.size_bytes // 2)
    prove(first, known, "failed", 1)

    caught = mirror.catch_up(first, second, "shop", "app")

    assert list(caught.damaged) == caught.behind == [bad.name]
    assert caught.copied == [good.name]
    assert not any(bad.name in key or known.name in key for key in contents(second))


def test_what_the_second_store_forgot_does_not_come_back(
    first: FolderStore, tmp_path: Path
) -> None:
    second = folder(tmp_path / "second")
    made = [keep_copy(first, hours) for hours in (24 * 9, 24 * 8, 24 * 7, 24, 12, 0)]
    for one in made[-3:]:
        prove(first, one, "proven", 3)
    short = Retention(days=2, weekly=0, monthly=0)

    caught = mirror.catch_up(first, second, "shop", "app", policy=short)

    assert caught.copied == [one.name for one in reversed(made[-3:])]
    assert caught.behind == []


def test_a_store_that_seals_gets_nothing_open(first: FolderStore, tmp_path: Path) -> None:
    place = tmp_path / "second"
    place.mkdir()
    recipients = tuple(str(Identity.generate().to_public()) for _ in range(2))
    second = FolderStore("second", place, recipients=recipients)
    made = keep_copy(first, 0)

    caught = mirror.catch_up(first, second, "shop", "app")

    assert caught.why and "keeps only sealed copies" in caught.why
    assert caught.behind == [made.name]
    assert contents(second) == {}


def test_a_half_object_that_a_dead_run_left_never_becomes_a_copy(
    first: FolderStore, tmp_path: Path
) -> None:
    second = folder(tmp_path / "second")
    made = keep_copy(first, 0)
    put(second, made.data.key, b"another thing")

    caught = mirror.catch_up(first, second, "shop", "app")

    assert list(caught.damaged) == [made.name]
    assert names.manifest_key("shop", "app", made.name) not in contents(second)


@pytest.mark.parametrize("step", steps.MIRROR)
def test_killed_anywhere_the_next_run_completes_it(
    first: FolderStore, tmp_path: Path, step: str
) -> None:
    second = folder(tmp_path / "second")
    made = keep_copy(first, 0)
    prove(first, made, "proven", 1)
    program = (
        "import sys, pathlib\n"
        "from flowforge.engines.backup.shelf import mirror\n"
        "from flowforge.engines.backup.stores.folder import FolderStore\n"
        "first, second = (FolderStore('s', pathlib.Path(p)) for p in sys.argv[1:])\n"
        "mirror.catch_up(first, second, 'shop', 'app')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(first.folder), str(second.folder)],
        env={**os.environ, "FLOWFORGE_KILL_AT": step},
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    exists = bool(inventory.take(second, "shop", "app").manifests)
    assert exists == (step == "mirror-manifest")

    mirror.catch_up(first, second, "shop", "app")

    assert contents(second) == contents(first)
