"""Streams of folders that were not made by who should make them."""

from __future__ import annotations

import io
import itertools
from pathlib import Path

import pytest

from flowforge.engines.sandboxes.inside import trees, unpacking
from flowforge.engines.sandboxes.inside.trees import END, FILE, FOLDER, LINK, SAME, BadTree, Entry
from flowforge.engines.sandboxes.mirror import exactly

BOUNDS = {"most_bytes": 1000, "most_entries": 5}


def stream(*parts: tuple[bytes, bytes, bytes]) -> bytes:
    packed = b"".join(Entry(k, p, 0o644, len(c)).pack() + c for k, p, c in parts)
    return packed + Entry(END, b"").pack()


def unpack(root: Path, data: bytes) -> set[bytes]:
    return unpacking.unpack(root, exactly(io.BytesIO(data)), lambda *_: None, **BOUNDS)


@pytest.mark.parametrize(
    "data",
    [
        stream((FILE, b"../x", b"")),
        stream((FILE, b"/nowhere/x", b"")),
        stream((FILE, b"", b"")),
        stream((FILE, b".", b"")),
        stream((FILE, b"a//b", b"")),
        stream((FILE, b"missing/x", b"")),
        stream((FILE, b"a\0b", b"")),
        stream((FILE, b".git", b"")),
        stream((FOLDER, b".GIT", b"")),
        stream((FOLDER, b"git~1", b"")),
        stream((LINK, b"a", b"../outside"), (FILE, b"a/x", b"")),
        stream((FOLDER, b"a", b""), (LINK, b"a", b"../outside"), (FILE, b"a/x", b"")),
        stream((FOLDER, b"a", b""), (LINK, b"a", b"../outside")),
        stream((FOLDER, b"a", b""), (FOLDER, b"a/b", b""), (LINK, b"a", b"../outside")),
        stream((FILE, b"a", b""), (FILE, b"a", b"")),
        stream((LINK, b"a", b"")),
        stream((LINK, b"a", b"x\0y")),
        stream((SAME, b"not-here", b"")),
        stream((b"z", b"a", b"")),
        stream((FILE, b"a", b"x" * 1001)),
        stream(*[(FILE, b"%d" % n, b"") for n in range(6)]),
        stream((FILE, b"a", b"x"))[:-30],
        trees.break_off("the reason"),
    ],
    ids=itertools.count(),
)
def test_a_stream_that_must_not_be_made_is_refused(tmp_path: Path, data: bytes) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    outside.mkdir(mode=0o750)
    (outside / "kept").write_text("kept")
    with pytest.raises(BadTree):
        unpack(root, data)
    assert [path.read_text() for path in outside.iterdir()] == ["kept"]
    assert outside.stat().st_mode & 0o777 == 0o750


def test_a_link_that_was_there_before_is_not_followed(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    (root / "a").symlink_to(outside)
    (root / "f").symlink_to(outside / "f")
    assert unpack(root, stream((FOLDER, b"a", b""), (FILE, b"a/x", b"1"), (FILE, b"f", b"2"))) == {
        *(b"a", b"a/x", b"f")
    }
    assert list(outside.iterdir()) == []
    assert ((root / "a/x").read_text(), (root / "f").read_text()) == ("1", "2")


def test_marks_come_out_as_they_went_in() -> None:
    marks = {b"a": Entry(FILE, b"a", 1, 2, 3, 4).mark, b"b\nc\xff": Entry(LINK, b"").mark}
    assert trees.read_marks(trees.pack_marks(marks)) == marks
