"""What goes goes whole, what has to stay stays, and a listing that is not whole deletes nothing."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from flowforge.engines.backup.dumping import fence
from flowforge.engines.backup.shelf import catalogue, forget, holds, inventory
from flowforge.engines.backup.shelf.forget import Forgotten
from flowforge.engines.backup.stores.folder import FolderStore
from flowforge.engines.backup.stores.store import Locked, Stored
from flowforge.errors import Refused, Unavailable
from flowforge.rules import names
from flowforge.rules.addresses import PostgresAddress
from flowforge.rules.retention import Retention
from tests.engines.backup.copies import NOW, a_manifest, put, write_copy

Database = Callable[..., PostgresAddress]
SHORT = Retention(days=1, weekly=0, monthly=0, min_proven=1, max_delete_fraction=1)


class LockedFolder(FolderStore):
    """A folder that lets nobody delete some of its objects."""

    locked: frozenset[str] = frozenset()
    until = NOW + timedelta(days=9)
    tells_in_head = True

    def head(self, key: str) -> Stored | None:
        found = super().head(key)
        if found is None or key not in self.locked or not self.tells_in_head:
            return found
        return Stored(key, found.size_bytes, found.modified_at, self.until)

    def delete(self, key: str) -> None:
        if key in self.locked:
            raise Locked(key, self.until)
        super().delete(key)


class BreakingFolder(FolderStore):
    """A folder whose listing breaks off in the middle."""

    def listing(self, prefix: str) -> Iterator[Stored]:
        for number, stored in enumerate(super().listing(prefix)):
            if number == 3:
                raise Unavailable("The second page did not come.", hint="Try again.")
            yield stored


@pytest.fixture
def source(database: Database) -> PostgresAddress:
    return database()


def fill(store: FolderStore) -> list[str]:
    """Six copies, a day apart, all compared; newest first."""
    return [write_copy(store, a_manifest(24 * day + 1), 1, 3) for day in range(6)]


def run(store: FolderStore, source: PostgresAddress, policy: Retention = SHORT) -> Forgotten:
    return forget.forget_expired(store, source, "app", policy)


def left(store: FolderStore) -> list[str]:
    return [copy.name for copy in catalogue.list_copies(store, "shop", "app")]


def age(store: FolderStore, key: str, hours: int) -> None:
    moment = (NOW - timedelta(hours=hours)).timestamp()
    os.utime(store.folder / key, (moment, moment))


def test_an_expired_copy_goes_with_all_its_parts(
    store: FolderStore, source: PostgresAddress
) -> None:
    names_of = fill(store)
    put(store, names.keys_prefix("shop", "app", names_of[5]) + "0001.age", b"k")
    put(store, names.globals_key("shop", "app", names_of[5]), b"g")
    done = run(store, source)
    assert done.gone == names_of[:0:-1]
    assert left(store) == names_of[:1]
    files = [p.name for p in store.folder.rglob("*") if p.is_file()]
    assert not [f for f in files if f.startswith(tuple(names_of[1:])) or f == "0001.age"]
    assert run(store, source).gone == []


def test_a_held_copy_stays_until_it_is_released(
    store: FolderStore, source: PostgresAddress
) -> None:
    names_of = fill(store)
    word = holds.hold(store, "shop", "app", names_of[4], reason="the auditor\nasked", by="ada")
    assert word.reason == "the auditor asked"
    assert holds.list_holds(store, "shop", "app") == [word]
    assert names_of[4] not in run(store, source).gone
    assert [c.held for c in catalogue.list_copies(store, "shop", "app")] == [False, True]
    with pytest.raises(Refused, match="exists already"):
        holds.hold(store, "shop", "app", names_of[4], reason="again", by="ada")
    holds.release(store, "shop", "app", names_of[4])
    assert run(store, source).gone == [names_of[4]]
    with pytest.raises(Refused, match="not held"):
        holds.release(store, "shop", "app", names_of[0])


def test_a_hold_needs_a_copy_and_a_reason(store: FolderStore) -> None:
    name = fill(store)[0]
    with pytest.raises(Refused, match="for a reason"):
        holds.hold(store, "shop", "app", name, reason=" \n", by="ada")
    with pytest.raises(Refused, match="has no copy"):
        holds.hold(store, "shop", "app", "backup-20200101-000000", reason="x", by="ada")


@pytest.mark.parametrize("tells_in_head", [True, False])
def test_a_copy_the_store_has_locked_is_kept_whole_and_said_so(
    tmp_path: Path, source: PostgresAddress, tells_in_head: bool
) -> None:
    store = LockedFolder("backups", tmp_path)
    names_of = fill(store)
    lock = (names.data_key if tells_in_head else names.manifest_key)("shop", "app", names_of[5])
    store.locked, store.tells_in_head = frozenset({lock}), tells_in_head
    done = run(store, source)
    assert done.gone == names_of[4:0:-1]
    assert left(store) == [names_of[0], names_of[5]]
    assert "is locked until" in done.kept[names_of[5]]
    assert any(f"{names_of[5]} was to go and stays" in remark for remark in done.remarks)


def test_five_newest_that_failed_and_are_too_old_take_nothing_along(
    store: FolderStore, source: PostgresAddress
) -> None:
    failed = [write_copy(store, a_manifest(24 * d), 1, 3, failed=True) for d in range(31, 36)]
    older = [write_copy(store, a_manifest(24 * d), 1, 3) for d in range(36, 40)]
    assert run(store, source).gone == []
    assert left(store) == [*failed, *older]


def test_a_listing_that_breaks_off_deletes_nothing(tmp_path: Path, source: PostgresAddress) -> None:
    whole = FolderStore("backups", tmp_path)
    names_of = fill(whole)
    with pytest.raises(Unavailable, match="second page"):
        run(BreakingFolder("backups", tmp_path), source)
    assert left(whole) == names_of


def test_an_empty_listing_deletes_nothing(store: FolderStore, source: PostgresAddress) -> None:
    store.folder.mkdir()
    assert run(store, source) == Forgotten()


def test_a_copy_of_the_year_2031_is_kept_and_fills_no_window(
    store: FolderStore, source: PostgresAddress
) -> None:
    names_of = fill(store)
    future = write_copy(store, a_manifest(-24 * 365 * 5), 1, 3)
    done = run(store, source)
    assert future in left(store)
    assert names_of[0] in left(store)
    assert done.gone == names_of[:0:-1]


def test_an_emptied_database_keeps_its_old_copies_until_that_is_accepted(
    store: FolderStore, source: PostgresAddress
) -> None:
    old = [write_copy(store, a_manifest(24 * d, rows=50_000), 1, 3) for d in range(40, 43)]
    new = write_copy(store, a_manifest(1, rows=0), 1, 3)
    assert run(store, source).gone == []
    fall = f"rows fell from 50,000 to 0 since {old[0]}"
    assert catalogue.list_copies(store, "shop", "app")[0].fall == fall
    holds.accept(store, "shop", "app", new, reason="the archive moved", by="ada")
    assert catalogue.list_copies(store, "shop", "app")[0].fall is None
    assert run(store, source).gone == old[::-1]


def test_too_many_at_once_is_a_remark_and_no_failure(
    store: FolderStore, source: PostgresAddress
) -> None:
    names_of = fill(store)
    done = run(store, source, SHORT.model_copy(update={"max_delete_fraction": 0.25}))
    assert done.gone == []
    assert "would go at once" in done.remarks[0]
    assert left(store) == names_of


def test_leftovers_go_when_they_are_a_day_old_and_no_manifest_is_there(
    store: FolderStore, source: PostgresAddress
) -> None:
    fill(store)
    young = names.data_key("shop", "app", "backup-20260101-000000")
    old = names.data_key("shop", "app", "backup-20260102-000000", sealed=True)
    for key in (young, old):
        put(store, key, b"x")
    age(store, old, 25)
    done = run(store, source)
    assert done.swept.keys == [old]
    assert done.swept.orphans == 1
    assert (store.folder / young).exists()


def test_leftovers_are_left_alone_while_a_backup_runs(
    store: FolderStore, source: PostgresAddress
) -> None:
    fill(store)
    old = names.data_key("shop", "app", "backup-20260102-000000")
    put(store, old, b"x")
    age(store, old, 25)
    with fence.held(source, "app"):
        done = run(store, source)
    assert done.swept == forget.Swept(orphans=1)
    assert "Another backup" in done.remarks[-1]
    assert (store.folder / old).exists()


def test_what_somebody_else_keeps_there_is_never_touched(
    store: FolderStore, source: PostgresAddress
) -> None:
    fill(store)
    theirs = put(store, "postgres/shop/app/notes.txt", b"mine")
    put(store, "postgres/shop/other/backup-20260102-000000.sql.gz", b"x")
    for key in ("postgres/shop/app/notes.txt", "postgres/shop/other/backup-20260102-000000.sql.gz"):
        age(store, key, 99)
    assert run(store, source).swept.keys == []
    assert theirs.exists()


def test_an_inventory_counts_what_is_listed_twice_once(store: FolderStore) -> None:
    names_of = fill(store)
    listed = list(store.listing("postgres/"))
    found = inventory.sort([*listed, *listed])["shop", "app"]
    assert sorted(found.manifests) == sorted(names_of)
    assert {len(parts) for parts in found.parts.values()} == {3}
