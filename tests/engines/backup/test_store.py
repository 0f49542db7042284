"""What every store must do. A new kind of store is added to `stores` and passes all of it."""

from __future__ import annotations

import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from flowforge.engines.backup.stores.folder import FolderStore
from flowforge.engines.backup.stores.store import Store
from flowforge.errors import Damaged, Refused, Unavailable
from tests.faults.buckets import make_bucket, open_quickly


@pytest.fixture(params=["folder", "s3"])
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "folder":
        return FolderStore("s", tmp_path / "with space")
    url: str = request.getfixturevalue("buckets")
    return open_quickly(make_bucket(url, prefix="with space/"))


def keys(store: Store, prefix: str) -> list[str]:
    return [stored.key for stored in store.listing(prefix)]


def read(store: Store, key: str, offset: int = 0, length: int | None = None) -> bytes:
    with store.read(key, offset, length) as file:
        return b"".join(iter(lambda: file.read(7) or b"", b""))


def test_an_object_appears_when_it_is_committed_and_not_before(kept: Store) -> None:
    with kept.upload("a/b/x.gz") as upload:
        upload.write(b"hello ")
        upload.write(b"world")
        assert kept.head("a/b/x.gz") is None
        upload.commit()
    head = kept.head("a/b/x.gz")
    assert head is not None and head.size_bytes == 11
    assert read(kept, "a/b/x.gz") == b"hello world"
    assert read(kept, "a/b/x.gz", 6) == b"world"
    assert read(kept, "a/b/x.gz", 2, 5) == b"llo w"
    assert read(kept, "a/b/x.gz", 9, 500) == b"ld"


def test_an_upload_that_is_left_leaves_nothing(kept: Store) -> None:
    kept.put_new("a/seed", b"")
    with pytest.raises(ZeroDivisionError), kept.upload("a/x") as upload:
        upload.write(b"1")
        raise ZeroDivisionError
    assert keys(kept, "a/") == ["a/seed"]
    assert kept.sweep("a/", datetime.now(UTC) + timedelta(days=1)) == []


def test_nothing_is_overwritten(kept: Store) -> None:
    kept.put_new("m.json", b"first")
    with pytest.raises(Refused, match="exists already"):
        kept.put_new("m.json", b"second")
    assert read(kept, "m.json") == b"first"


def test_of_many_writers_one_wins(kept: Store) -> None:
    won: list[bytes] = []

    def put(content: bytes) -> None:
        try:
            kept.put_new("m.json", content)
        except Refused:
            return
        won.append(content)

    writers = [threading.Thread(target=put, args=(b"%d" % n,)) for n in range(16)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert won == [read(kept, "m.json")]


def test_a_listing_is_by_prefix_and_in_order(kept: Store) -> None:
    for key in ("p/b", "p/a", "p/c/d", "q/a"):
        kept.put_new(key, b"")
    assert keys(kept, "p/") == ["p/a", "p/b", "p/c/d"]
    assert keys(kept, "p/c") == ["p/c/d"]
    assert keys(kept, "nothing/") == []


def test_deleting_twice_is_deleting_once(kept: Store) -> None:
    kept.put_new("x", b"1")
    kept.delete("x")
    kept.delete("x")
    assert kept.head("x") is None


def test_reading_what_is_not_there_is_damage(kept: Store) -> None:
    with pytest.raises(Damaged, match="has no gone"), kept.read("gone"):
        pass


def test_a_key_that_leaves_the_store_is_refused(kept: Store) -> None:
    with pytest.raises(Refused):
        kept.put_new("../outside", b"")


def test_a_folder_that_is_gone_is_never_an_empty_listing(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="is not there"):
        list(FolderStore("s", tmp_path / "unmounted").listing("postgres/"))


def test_a_killed_upload_is_swept_and_a_live_one_is_not(tmp_path: Path) -> None:
    writer = (
        "import sys, pathlib; from flowforge.engines.backup.stores.folder import FolderStore\n"
        "with FolderStore('s', pathlib.Path(sys.argv[1])).upload('a/x') as upload:\n"
        "    upload.write(b'half'); print('writing', flush=True); sys.stdin.read()\n"
    )
    running = subprocess.Popen(
        [sys.executable, "-c", writer, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert running.stdin is not None and running.stdout is not None
    running.stdout.readline()
    store = FolderStore("s", tmp_path)
    later = datetime.now(UTC) + timedelta(hours=1)
    assert store.sweep("a/", later) == []
    running.kill()
    running.communicate()
    assert keys(store, "a/") == []
    assert len(store.sweep("a/", later)) == 1
    assert list((tmp_path / "a").iterdir()) == []


def test_copies_are_for_their_owner_alone(tmp_path: Path) -> None:
    store = FolderStore("s", tmp_path / "deep" / "er")
    store.put_new("a/x", b"1")
    modes = {p.stat().st_mode & 0o077 for p in [store.folder, *store.folder.rglob("*")]}
    assert modes == {0}
