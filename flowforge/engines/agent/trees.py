"""The workspace as a Git tree, after every turn that may have changed it.

What a tree cannot hold is named, never lost in silence. What `.gitignore` names is kept for a later
attempt, while it is small, but is no part of the patch.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from flowforge.engines.agent import survey
from flowforge.engines.agent.git import checked
from flowforge.engines.agent.sources import EMPTY_TREE, Base, Places, check_out
from flowforge.errors import Damaged

MOST_FILE_BYTES = 100 * 1024 * 1024
"""A larger file is left out, as every large host of Git does."""

MOST_IGNORED_BYTES = 64 * 1024 * 1024
_NAMED = 50
_YOUNG_NANOSECONDS = 20_000_000  # the kernel's clock of changes is coarse


@dataclass(frozen=True)
class LeftOut:
    """Something of the workspace that is not kept."""

    path: str
    why: str


@dataclass(frozen=True)
class Kept:
    """The workspace at one moment."""

    tree: str
    """All that is kept of it, from which a later attempt goes on."""

    patch_tree: str
    """What the patch shall bring: the same without what `.gitignore` names."""

    left_out: tuple[LeftOut, ...] = ()
    """What is not in `tree`; the first of it, when it is much."""

    ignored: int = 0
    """Files that are not in the patch because `.gitignore` names them."""


class Trees:
    """Makes trees of a job's mirror, and the mirror of a tree."""

    def __init__(
        self, places: Places, base: Base, *, most_file_bytes: int = MOST_FILE_BYTES
    ) -> None:
        self._places = places
        self._base = base
        self._git = places.work
        self._most_file_bytes = most_file_bytes
        self._has_submodules = base.commit is not None
        self._known: tuple[bytes, Kept] | None = None
        """How the mirror looked when it was kept last, if that can be relied on."""

    async def keep(self) -> Kept:
        """Keep the mirror as it is now; one that still looks as it did last is not read again."""
        found = await asyncio.to_thread(self._look)
        if self._known is not None and self._known[0] == found.looks:
            return self._known[1]
        kept = await self._keep(found)
        self._note(found, kept)
        return kept

    async def remember(self, kept: Kept) -> None:
        """Take the mirror, as it looks now, for what was kept of it."""
        self._note(await asyncio.to_thread(self._look), kept)

    def _look(self) -> survey.Survey:
        return survey.look(self._places.files, self._most_file_bytes)

    def _note(self, found: survey.Survey, kept: Kept) -> None:
        is_old = time.time_ns() - found.changed_at > _YOUNG_NANOSECONDS
        self._known = (found.looks, kept) if is_old else None

    async def _keep(self, found: survey.Survey) -> Kept:
        if self._has_submodules:
            await self._keep_submodules()
        changed = await self._add(found.too_large)
        patch_tree = await self._git.ask_line("write-tree", index=self._places.index)
        others: set[bytes] = set()
        if changed or found.too_large or self._has_submodules or found.files != self._in_index():
            others = set(await self._list("--others"))
        ignored: set[bytes] = set()
        if others:
            ignored = set(await self._list("--others", "--ignored", "--exclude-standard"))
            ignored -= found.too_large
        unkept = (others | changed) - ignored
        too_much = ignored if self._total(ignored) > MOST_IGNORED_BYTES else set()
        kept_too = ignored - too_much
        tree = await self._with_ignored(kept_too) if kept_too else patch_tree
        left_out = [
            *_name(unkept & found.too_large, f"larger than {self._most_file_bytes >> 20} MB"),
            *_name(unkept - found.too_large, "Git cannot store it"),
            *_name(too_much, "named in .gitignore, and too much in all"),
            *_name(found.repositories, "Git's own files; the files beside them are kept"),
            *_name(found.empty_folders, "an empty folder"),
        ]
        return Kept(tree, patch_tree, tuple(left_out[:_NAMED]), len(ignored))

    async def export_pack(self, since: str | None, tree: str) -> bytes:
        """What a tree holds that another does not, as a thin pack.

        Args:
            since: A tree whose contents the reader has already; `None` for none at all.
            tree: The one to send.

        Raises:
            Refused: It is larger than `git.MOST_BYTES`.
        """
        if since == tree:
            return b""
        before = self._git.commit(since or EMPTY_TREE)
        after = self._git.commit(tree, before)
        return await self._git.ask(
            "pack-objects",
            "--thin",
            "--revs",
            "--stdout",
            "--quiet",
            "--delta-base-offset",
            input=f"{after}\n^{before}\n".encode(),
        )

    async def import_pack(self, pack: bytes) -> None:
        """Take in what `export_pack` gave, in the order it was given.

        Raises:
            Damaged: It is not whole, or an earlier one is missing.
        """
        if pack:
            await self._git.ask("index-pack", "--stdin", "--fix-thin", input=pack)

    async def restore(self, tree: str) -> None:
        """Make the mirror equal to a tree.

        Raises:
            Damaged: Not all of the tree is here.
        """
        if (await self._git.run("cat-file", "-e", f"{tree}^{{tree}}")).status:
            raise Damaged(
                f"The tree {tree} of the workspace is not here.",
                hint="Import every pack of the job first, from the oldest to the newest.",
            )
        self._known, self._has_submodules = None, self._base.commit is not None
        await asyncio.to_thread(self._look)  # so that all of it can be removed
        await asyncio.to_thread(_empty, self._places.files)
        await check_out(self._places, tree)
        # What only `.gitignore` keeps out must not count as a part of the patch.
        await self._git.ask("read-tree", "-m", self._base.shown, index=self._places.index)

    async def _add(self, too_large: frozenset[bytes]) -> set[bytes]:
        """Take what is in the mirror into the index; what of the index has changed and is not."""
        paths = [b":/", *(b":(top,exclude,literal)" + path for path in too_large)]
        said = await self._git.run(
            "add",
            "--all",
            "--ignore-errors",
            "--pathspec-from-file=-",
            "--pathspec-file-nul",
            input=b"\0".join(paths),
            index=self._places.index,
        )
        if said.status == 0 and not too_large:
            return set()
        if said.status not in (0, 1) or "No space left" in said.err:  # 1: without some files
            checked("add", said)
        await self._git.run("update-index", "--refresh", "-q", index=self._places.index)
        changed = await self._git.ask(
            "diff-files", "--name-only", "--ignore-submodules", "-z", index=self._places.index
        )
        return set(_split(changed))

    async def _with_ignored(self, ignored: set[bytes]) -> str:
        index = self._places.index.with_name("index.all")
        await asyncio.to_thread(shutil.copyfile, self._places.index, index)
        await self._git.ask(
            "update-index", "--add", "-z", "--stdin", input=b"\0".join(sorted(ignored)), index=index
        )
        return await self._git.ask_line("write-tree", index=index)

    async def _keep_submodules(self) -> None:
        """Let submodules stay that nobody touched, and files in their place count as files.

        They are not fetched, so each is an empty folder, which not every sandbox gives back.
        """
        staged = await self._git.ask("ls-files", "--stage", "-z", index=self._places.index)
        links = [
            line.partition(b"\t")[2]
            for line in _split(staged)
            if line.startswith(b"160000 ")  # the mode of a submodule
        ]
        self._has_submodules = bool(links)  # they come with the base, and no others come later
        if links:
            gone = await asyncio.to_thread(_filled, self._places.files, links)
            await self._git.ask(
                "update-index",
                "--force-remove",
                "-z",
                "--stdin",
                input=b"\0".join(gone),
                index=self._places.index,
            )

    async def _list(self, *which: str) -> list[bytes]:
        return _split(await self._git.ask("ls-files", "-z", *which, index=self._places.index))

    def _total(self, paths: Iterable[bytes]) -> int:
        files = os.fsencode(self._places.files)
        return sum(os.lstat(os.path.join(files, path)).st_size for path in paths)  # noqa: PTH118

    def _in_index(self) -> int:
        """How many files the index holds; after `_add` each of them is in the mirror, too."""
        try:
            with self._places.index.open("rb") as file:
                return int.from_bytes(file.read(12)[8:])
        except FileNotFoundError:
            return 0


def _split(found: bytes) -> list[bytes]:
    return [part for part in found.split(b"\0") if part]


def _name(paths: Iterable[bytes], why: str) -> list[LeftOut]:
    return [LeftOut(path.decode(errors="backslashreplace"), why) for path in sorted(paths)]


def _filled(files: Path, links: list[bytes]) -> list[bytes]:
    """Which submodules are not empty folders any more; one that is missing is made again."""
    named = files / ".gitmodules"
    wanted = named.read_bytes() if named.is_file() and not named.is_symlink() else b""
    gone = []
    for link in links:
        place = files / os.fsdecode(link)
        real = place.parent.resolve() == files.resolve() / os.fsdecode(link).rpartition("/")[0]
        if real and link in wanted and not os.path.lexists(place):
            place.mkdir(parents=True)
        if not real or place.is_symlink() or not place.is_dir() or any(place.iterdir()):
            gone.append(link)
    return gone


def _empty(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()
