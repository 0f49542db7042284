"""The workspace after each turn: kept whole, moved elsewhere, and honest about what is left out."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from flowforge.engines.agent.sources import bring
from flowforge.engines.agent.trees import MOST_IGNORED_BYTES, Kept, Trees
from flowforge.engines.agent.workspace import Workspace
from flowforge.engines.sandboxes.sandbox import SandboxLost
from flowforge.errors import Damaged
from flowforge.rules.jobs.spec import FileSet, GitSource
from tests.engines.agent.folder_sandbox import FolderSandbox
from tests.engines.agent.repositories import Desk, git, repository

LINES = "".join(f"line {n} of a file that is not small\n" for n in range(20_000))


@pytest.fixture
def origin(tmp_path: Path) -> Path:
    return repository(
        tmp_path / "origin", {"a": b"1\n", "big": LINES.encode(), ".gitignore": b"o\n"}
    )


def contents(folder: Path) -> dict[str, tuple[int, str | bytes]]:
    """Every file below a folder: its mode and what is in it."""
    return {
        str(path.relative_to(folder)): (
            path.lstat().st_mode,
            str(path.readlink()) if path.is_symlink() else path.read_bytes(),
        )
        for path in folder.rglob("*")
        if path.is_symlink() or path.is_file()
    }


def test_a_job_goes_on_elsewhere_from_its_base_and_its_packs(origin: Path, tmp_path: Path) -> None:
    async def work() -> None:
        first = await Desk.of(GitSource(url=str(origin)), tmp_path / "one")
        steps = [
            await first.run("sed -i 's/^line 9000 /LINE 9000 /' big; chmod +x a"),
            await first.run("true"),
            await first.run(
                "mkdir o d; echo kept > o/f; ln -s ../a d/l; mv big d/big; printf x >> a"
            ),
        ]
        packs = [step.pack for step in steps]
        assert packs[1] == b""
        assert sum(map(len, packs)) < 4000  # a line of a large file, not the file
        files = await Workspace.bring(
            GitSource(url=str(origin)), tmp_path / "two", commit=first.files.base.commit
        )
        await files.go_on(steps[-1].kept.tree, packs)
        second = FolderSandbox(tmp_path / "sandbox")
        await files.give(second)
        assert contents(Path(second.workspace)) == contents(first.here)
        again = await files.keep(second)
        assert (again.kept, again.pack) == (steps[-1].kept, b"")
        assert await files.patch() == await first.files.patch()

    asyncio.run(work())


class LostOnTheWay(FolderSandbox):
    """Is lost when a part of its files has come."""

    async def pull(self, folder: Path) -> None:
        (folder / "a").unlink()
        (folder / "half").write_text("of a file")
        raise SandboxLost("It is lost.", hint="Open another.")


def test_a_sandbox_lost_while_its_files_are_brought_takes_nothing_with_it(
    origin: Path, tmp_path: Path
) -> None:
    async def work() -> None:
        first = await Desk.of(GitSource(url=str(origin)), tmp_path / "one")
        step = await first.run("echo kept > new; mkdir o; echo ignored > o/f")
        with pytest.raises(SandboxLost):
            await first.files.keep(LostOnTheWay(tmp_path / "lost"))
        second = FolderSandbox(tmp_path / "two")
        await first.files.give(second)
        assert contents(Path(second.workspace)) == contents(first.here)
        assert (await first.files.keep(second)).kept == step.kept

    asyncio.run(work())


def test_without_all_its_packs_a_job_does_not_go_on(origin: Path, tmp_path: Path) -> None:
    async def work() -> None:
        first = await Desk.of(GitSource(url=str(origin)), tmp_path / "one")
        await first.run("echo x > new")
        last = await first.run("echo y > newer")
        files = await Workspace.bring(GitSource(url=str(origin)), tmp_path / "two")
        with pytest.raises(Damaged):
            await files.go_on(last.kept.tree, [last.pack])

    asyncio.run(work())


def test_a_pack_that_is_not_whole_is_noticed(origin: Path, tmp_path: Path) -> None:
    async def work() -> None:
        first = await Desk.of(GitSource(url=str(origin)), tmp_path / "one")
        step = await first.run("echo x > new")
        files = await Workspace.bring(GitSource(url=str(origin)), tmp_path / "two")
        with pytest.raises(Damaged, match="index-pack failed"):
            await files.go_on(step.kept.tree, [step.pack[:-5]])

    asyncio.run(work())


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[tuple[Trees, Path]]:
    """The trees of a job on one file, and its mirror to change as no sandbox should."""
    places, base = asyncio.run(
        bring(FileSet(files={"a": "1\n", ".gitignore": "*.o\n"}), tmp_path / "j")
    )
    yield Trees(places, base), places.files


def kept(trees: Trees) -> tuple[Kept, set[tuple[str, str]]]:
    found = asyncio.run(trees.keep())
    return found, {(one.path, one.why) for one in found.left_out}


def test_a_mirror_that_looks_as_before_is_not_read_again(mirror: tuple[Trees, Path]) -> None:
    trees, files = mirror
    (files / "a").write_text("2\n")
    deadline = time.monotonic() + 10
    while time.time_ns() - (files / "a").stat().st_ctime_ns < 50_000_000:
        assert time.monotonic() < deadline
    before, _ = kept(trees)
    work = files.with_name("work.git")
    work.rename(files.with_name("away"))
    assert kept(trees)[0] is before
    files.with_name("away").rename(work)
    (files / "a").write_text("3\n")
    assert kept(trees)[0].tree != before.tree


def test_what_is_too_large_is_left_out_and_said(tmp_path: Path) -> None:
    megabyte = 1024 * 1024
    given = FileSet(files={"a": "1\n", "same": "x" * (megabyte + 1)})
    places, base = asyncio.run(bring(given, tmp_path / "job"))
    trees = Trees(places, base, most_file_bytes=megabyte)
    for name in ("a", "new"):
        with (places.files / name).open("ab") as file:
            file.truncate(megabyte + 1)
    (places.files / "same").touch()
    after, left_out = kept(trees)
    assert left_out == {("a", "larger than 1 MB"), ("new", "larger than 1 MB")}
    assert after.tree == base.tree


def test_what_gitignore_names_is_kept_while_it_is_small(mirror: tuple[Trees, Path]) -> None:
    trees, files = mirror
    (files / "small.o").write_bytes(b"x")
    small, nothing = kept(trees)
    assert (small.ignored, nothing, small.tree == small.patch_tree) == (1, set(), False)
    with (files / "large.o").open("wb") as file:
        file.truncate(MOST_IGNORED_BYTES)
    large, left_out = kept(trees)
    assert {path for path, _ in left_out} == {"small.o", "large.o"}
    assert large.tree == large.patch_tree == small.patch_tree


def test_what_git_cannot_store_is_left_out_and_said(mirror: tuple[Trees, Path]) -> None:
    trees, files = mirror
    for name in ("empty/inner", "GIT~1", ".Git", "sub/.git", "good"):
        (files / name).mkdir(parents=True)
    for name in ("GIT~1/config", ".Git/config", "sub/.git/config", "sub/f", "good/f"):
        (files / name).write_text("x")
    (files / ".gitmodules").symlink_to("a")
    _, left_out = kept(trees)
    assert left_out == {
        (".Git/config", "Git cannot store it"),
        (".gitmodules", "Git cannot store it"),
        ("GIT~1/config", "Git cannot store it"),
        ("empty/inner", "an empty folder"),
        ("sub/.git", "Git's own files; the files beside them are kept"),
    }


def test_a_file_its_owner_may_not_read_is_kept(mirror: tuple[Trees, Path]) -> None:
    trees, files = mirror
    (files / "d").mkdir()
    (files / "d/f").write_text("x")
    before, _ = kept(trees)
    (files / "d/f").chmod(0)
    (files / "d").chmod(0)
    after, left_out = kept(trees)
    assert (after, left_out) == (before, set())


def test_a_file_changed_behind_its_size_and_time_is_seen(mirror: tuple[Trees, Path]) -> None:
    trees, files = mirror
    before, _ = kept(trees)
    about = (files / "a").stat()
    (files / "a").write_text("2\n")
    os.utime(files / "a", ns=(about.st_atime_ns, about.st_mtime_ns))
    after, _ = kept(trees)
    assert after.tree != before.tree


@pytest.mark.slow
def test_twenty_thousand_files_are_kept_in_seconds(tmp_path: Path) -> None:
    made = repository(tmp_path / "origin", {f"d{n % 100}/f{n}": b"%d\n" % n for n in range(20_000)})

    async def work() -> tuple[float, float, float]:
        desk = await Desk.of(GitSource(url=str(made)), tmp_path / "job")
        seconds = []
        for script in ("true", "true", "echo x >> d1/f1"):
            await desk.sandbox.exec(["bash", "-c", script], timeout_seconds=10)
            await desk.sandbox.pull(desk.files._places.files)
            started = time.monotonic()
            await desk.files._trees.keep()
            seconds.append(time.monotonic() - started)
        await desk.run("true")
        assert [file.path for file in (await desk.patch()).files] == ["d1/f1"]
        return seconds[0], seconds[1], seconds[2]

    first, unchanged, one = asyncio.run(work())
    print(f"first {first:.2f} s, unchanged {unchanged:.2f} s, one file {one:.2f} s")  # noqa: T201
    assert first < 5
    assert max(unchanged, one) < 2
    assert git(made, "status", "--porcelain") == ""
