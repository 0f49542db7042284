"""The store is the truth: listed quickly, whatever was summarised and however many there are."""

from __future__ import annotations

import math
import time
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr

from flowforge.engines.backup.shelf import catalogue, history, inventory
from flowforge.engines.backup.stores.folder import FolderStore
from flowforge.engines.backup.stores.s3 import S3Store
from flowforge.rules import names, retention
from flowforge.rules.addresses import S3Address
from flowforge.rules.backups import Copy, Level
from flowforge.rules.drills import drill_of
from flowforge.rules.proofs import Proof
from tests.engines.backup.copies import NOW, a_manifest, put, write_copy
from tests.faults.plain_bucket import serve_folder

MANY = 10_000
LONGEST_LISTING_SECONDS = 20
LONGEST_DECISION_SECONDS = 1


class CountingFolder(FolderStore):
    """A folder that knows which objects were read."""

    def __init__(self, name: str, folder: Path) -> None:
        super().__init__(name, folder)
        self.reads: list[str] = []

    def read(self, key: str, offset: int = 0, length: int | None = None):  # type: ignore[no-untyped-def]
        self.reads.append(key)
        return super().read(key, offset, length)


@pytest.fixture
def counting(tmp_path: Path) -> CountingFolder:
    return CountingFolder("backups", tmp_path)


def summarise(store: FolderStore) -> bool:
    return catalogue.summarise(store, inventory.take(store, "shop", "app"))


def test_proofs_count_without_being_read(counting: CountingFolder) -> None:
    write_copy(counting, a_manifest(2), 1, 3)
    write_copy(counting, a_manifest(1), 1, 3, failed=True)
    listed = catalogue.list_copies(counting, "shop", "app")
    assert [(c.level, c.failed) for c in listed] == [(0, True), (3, False)]
    assert listed[1].proven_at == a_manifest(2).finished_at + timedelta(minutes=2)
    assert not any("/proofs/" in key for key in counting.reads)


def test_a_proof_whose_name_does_not_say_its_verdict_is_read(counting: CountingFolder) -> None:
    name = write_copy(counting, a_manifest(2), 3)
    (proof,) = (counting.folder / names.proofs_prefix("shop", "app", name)).iterdir()
    proof.rename(proof.with_name(proof.name.replace("-proven", "")))
    assert catalogue.list_copies(counting, "shop", "app")[0].level == Level.COMPARED
    assert len(counting.reads) == 2


def test_a_summary_spares_the_manifests_it_covers_and_no_other(counting: CountingFolder) -> None:
    made = [write_copy(counting, a_manifest(hour), 1) for hour in range(2, 72)]
    before = catalogue.list_copies(counting, "shop", "app")
    assert summarise(counting)
    assert not summarise(counting)
    new = write_copy(counting, a_manifest(1), 1)
    counting.reads.clear()
    listed = catalogue.list_copies(counting, "shop", "app")
    assert listed[1:] == before
    assert [copy.name for copy in listed] == [new, *made]
    assert len(counting.reads) == 2


@pytest.mark.parametrize("broken", [b"", b"{}", b'{"fields": ["name"], "copies": []}'])
def test_a_summary_that_is_of_no_use_costs_time_only(
    counting: CountingFolder, broken: bytes
) -> None:
    name = write_copy(counting, a_manifest(1), 1)
    put(counting, names.summaries_prefix("shop", "app") + "20990101T000000.000000Z.json", broken)
    assert [copy.name for copy in catalogue.list_copies(counting, "shop", "app")] == [name]


def test_a_summary_makes_no_copy_exist_and_hides_no_change(counting: CountingFolder) -> None:
    made = [write_copy(counting, a_manifest(hour), 1) for hour in range(70)]
    assert summarise(counting)
    (counting.folder / names.manifest_key("shop", "app", made[3])).unlink()
    changed = a_manifest(5, rows=1_000_000)
    put(counting, names.manifest_key("shop", "app", changed.name), changed.to_json())
    listed = {copy.name: copy for copy in catalogue.list_copies(counting, "shop", "app")}
    assert made[3] not in listed
    assert listed[changed.name].rows == 1_000_000


def test_old_summaries_make_room_for_the_new_one(counting: CountingFolder) -> None:
    for hour in range(70):
        write_copy(counting, a_manifest(hour), 1)
    assert summarise(counting)
    for hour in range(70, 140):
        write_copy(counting, a_manifest(hour), 1)
    assert summarise(counting)
    place = counting.folder / names.summaries_prefix("shop", "app")
    assert len(list(place.iterdir())) == 1


def test_a_lost_ledger_gets_copies_proofs_and_drills_of_every_database(
    counting: CountingFolder,
) -> None:
    write_copy(counting, a_manifest(2), 1, 3)
    (copy,) = catalogue.list_copies(counting, "shop", "app")
    proof = Proof(
        copy_name=copy.name,
        level=Level.COMPARED,
        verdict="proven",
        checked_at=NOW,
        seconds=9,
        restore_seconds=5,
        phase_seconds={"load": 5, "compare": 3},
    )
    for hour in range(14):
        update = {"checked_at": NOW - timedelta(days=hour)}
        history.add(counting, drill_of(copy, proof.model_copy(update=update)))
    copies, proofs = catalogue.read_catalogue(counting)
    assert copies == [copy]
    assert [(one.name, proof.level) for one, proof in proofs] == [(copy.name, 1), (copy.name, 3)]
    assert len(history.read_all(counting)) == 14
    last = history.read(counting, "shop", "app")
    assert len(last) == 12
    assert (last[-1].drilled_at, last[-1].seconds) == (NOW, 8)


@pytest.mark.slow
def test_ten_thousand_copies_are_listed_and_decided_in_time(store: FolderStore) -> None:
    for number in range(MANY):
        write_copy(store, a_manifest(number, tables=20), 1, 3)
    clock = time.monotonic()
    cold = catalogue.list_copies(store, "shop", "app")
    cold_seconds = time.monotonic() - clock
    assert summarise(store)
    clock = time.monotonic()
    warm = catalogue.list_copies(store, "shop", "app")
    warm_seconds = time.monotonic() - clock
    clock = time.monotonic()
    decisions = retention.choose_expired(warm, retention.Retention(max_delete_fraction=1), NOW)
    decided_seconds = time.monotonic() - clock
    print(f"{cold_seconds=:.2f} {warm_seconds=:.2f} {decided_seconds=:.3f}")  # noqa: T201
    assert warm == cold
    assert len(decisions) == MANY
    assert max(cold_seconds, warm_seconds) < LONGEST_LISTING_SECONDS
    assert decided_seconds < LONGEST_DECISION_SECONDS


@pytest.mark.parametrize("many", [300, pytest.param(MANY, marks=pytest.mark.slow)])
def test_a_bucket_is_asked_once_for_a_copy_no_summary_covers_and_never_for_the_others(
    many: int, store: FolderStore
) -> None:
    for number in range(many):
        write_copy(store, a_manifest(number, tables=20), 1, 3)
    cold, cold_requests, cold_seconds = list_served(store.folder)
    assert summarise(store)
    warm, warm_requests, warm_seconds = list_served(store.folder)

    print(f"{cold_seconds=:.2f} {warm_seconds=:.2f}")  # noqa: T201
    pages = math.ceil(4 * many / 1000)  # data, manifest and two proofs of each
    assert cold_requests == {"list": pages, "get": many}
    assert warm_requests == {"list": math.ceil((4 * many + 1) / 1000), "get": 1}
    assert warm == cold
    assert len(cold) == many
    assert max(cold_seconds, warm_seconds) < LONGEST_LISTING_SECONDS


def list_served(folder: Path) -> tuple[list[Copy], dict[str, int], float]:
    """The copies in a folder served as a bucket, the requests it took, and our seconds of CPU."""
    with serve_folder(folder) as bucket:
        address = S3Address(
            name="backups",
            bucket="copies",
            endpoint_url=bucket.url,
            access_key_id="AKIDEXAMPLE",
            secret_access_key=SecretStr("secret"),
        )
        clock = time.process_time()
        listed = catalogue.list_copies(S3Store(address), "shop", "app")
        return listed, bucket.take_counts(), time.process_time() - clock
