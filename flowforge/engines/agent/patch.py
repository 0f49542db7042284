"""The patch of a job, proven: applied to what the job began with, it gives what the job left.

The proof has its own Git folder, which holds nothing of what the job made. So whatever the patch
does not carry is missing there.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from flowforge.engines.agent.git import Git
from flowforge.engines.agent.sources import EMPTY_TREE, Base, Places
from flowforge.engines.agent.trees import Kept

Change = Literal["added", "deleted", "changed", "renamed", "copied", "kind changed"]
_CHANGES: dict[str, Change] = {
    "A": "added",
    "C": "copied",
    "D": "deleted",
    "M": "changed",
    "R": "renamed",
    "T": "kind changed",
}
_PLAIN = (
    "-r",
    "--no-ext-diff",
    "--no-textconv",
    "--no-color",
    "--find-renames",
    "--ignore-submodules=none",
)
_ALL = ("-z", "--raw", "--numstat", "-p", "--binary", "--full-index")


@dataclass(frozen=True)
class Changed:
    """What a patch does to one file."""

    path: str
    change: Change
    insertions: int | None
    """Lines; `None` when the file is no text."""

    deletions: int | None
    before: str | None = None
    """The path it had, if it was renamed."""


@dataclass(frozen=True)
class Patch:
    """What a job changed."""

    content: bytes
    """As `git apply` takes it, at the root of the repository; empty when nothing has changed."""

    files: tuple[Changed, ...]
    commit: str | None
    """The commit it is for; none when the job did not begin with one."""

    base: str
    """The tree it is for."""

    tree: str
    """The tree it gives."""

    proven: bool
    why_not: str | None = None

    @property
    def insertions(self) -> int:
        """Lines added in all text files."""
        return sum(file.insertions or 0 for file in self.files)

    @property
    def deletions(self) -> int:
        """Lines removed in all text files."""
        return sum(file.deletions or 0 for file in self.files)


async def make_patch(places: Places, base: Base, kept: Kept) -> Patch:
    """Make the patch from what a job began with to what was kept of it, and prove it.

    Raises:
        Refused: It is larger than `git.MOST_BYTES`.
    """
    tree = await _whole(places, base, kept.patch_tree)
    if tree == base.tree:
        return Patch(b"", (), base.commit, base.tree, tree, proven=True)
    git = Git(places.work.folder)  # without the files, of which it would obey .gitmodules
    told = await git.ask("diff-tree", *_PLAIN, *_ALL, base.tree, tree)
    files, content = _read(told)
    why_not = await why_not_proven(places, base, content, tree)
    return Patch(content, files, base.commit, base.tree, tree, why_not is None, why_not)


async def _whole(places: Places, base: Base, tree: str) -> str:
    """The tree of the repository with the job's folder of it replaced."""
    if base.subdir is None:
        return tree
    index = places.index.with_name("index.whole")
    await places.work.ask("read-tree", base.tree, index=index)
    inside = f":(top,literal){base.subdir}"
    old = await places.work.ask("ls-files", "-z", "--", inside, index=index)
    await places.work.ask("update-index", "--force-remove", "-z", "--stdin", input=old, index=index)
    if tree != EMPTY_TREE:
        await places.work.ask("read-tree", f"--prefix={base.subdir}/", tree, index=index)
    return await places.work.ask_line("write-tree", index=index)


async def why_not_proven(places: Places, base: Base, content: bytes, tree: str) -> str | None:
    """Apply a patch to its base, and nothing but its base; what is wrong, if something is.

    Args:
        places: The job's folder.
        base: What the job began with.
        content: The patch.
        tree: What it shall give.
    """
    folder = Path(tempfile.mkdtemp(dir=places.folder, prefix="proof-"))
    try:
        git = Git(folder / "proof.git")
        git.create(borrow=places.base.folder)
        await git.ask("read-tree", base.tree, index=folder / "index")
        if content:
            said = await git.run(
                "apply",
                "--cached",
                "--whitespace=nowarn",
                "-",
                input=content,
                index=folder / "index",
            )
            if said.status:
                return f"it does not apply: {said.err.strip()[-500:]}"
        given = await git.ask_line("write-tree", "--missing-ok", index=folder / "index")
        return None if given == tree else f"it gives the tree {given}, the workspace is {tree}"
    finally:
        await asyncio.to_thread(shutil.rmtree, folder)


def _read(told: bytes) -> tuple[tuple[Changed, ...], bytes]:
    """Take apart what `_ALL` shows: first every change, then every count, then the patch."""
    changes: dict[bytes, Change] = {}
    found, at = [], 0

    def field() -> bytes:
        nonlocal at
        begin, at = at, told.index(b"\0", at) + 1
        return told[begin : at - 1]

    while one := field():
        if one.startswith(b":"):
            letter = one.rpartition(b" ")[2][:1].decode()
            path = field()
            changes[field() if letter in "RC" else path] = _CHANGES[letter]
        else:
            added, removed, path = one.split(b"\t", 2)
            before = None if path else field()
            path = path or field()
            found.append(
                Changed(
                    _shown(path),
                    changes[path],
                    _count(added),
                    _count(removed),
                    None if before is None else _shown(before),
                )
            )
    return tuple(found), told[at:]


def _shown(path: bytes) -> str:
    return path.decode(errors="backslashreplace")


def _count(lines: bytes) -> int | None:
    return None if lines == b"-" else int(lines)
