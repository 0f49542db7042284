"""Where a job's files come from: a commit, files given with the job, or nothing.

They are brought to a folder of the brain. The Git folder beside it is the brain's own; the sandbox
gets files, never a repository's settings and never an access to it.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from flowforge.engines.agent.git import Git, Heard, Said
from flowforge.engines.agent.sources_access import Access, granted
from flowforge.errors import FlowForgeError, Refused, Unavailable
from flowforge.rules.jobs.spec import Empty, FileSet, GitSource, Workspace

EMPTY_TREE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
"""Git's name for a folder without files."""

IDLE_SECONDS = 300.0
_NO_REF = re.compile(r"^[-+]|[\x00-\x20:?*\[\\^~\x7f]|\.\.|@\{|//|/$|\.lock$|^@$")
_NOT_LET_IN = (
    "authentication failed",
    "could not read username",
    "permission denied",
    "host key verification failed",
    "error: 401",
    "error: 403",
)
_NOT_THERE = ("not found", "does not appear to be a git repository", "does not exist")


@dataclass(frozen=True)
class Base:
    """What the files of a job were at its start."""

    commit: str | None
    """The commit they are from; none for files given with the job."""

    tree: str
    """The whole tree of it, against which the patch is made."""

    shown: str
    """The tree of what the job works on: all of it, or of its `subdir`."""

    subdir: str | None = None


@dataclass(frozen=True)
class Places:
    """The parts of a job's folder in the brain."""

    folder: Path

    @property
    def files(self) -> Path:
        """The mirror of the workspace."""
        return self.folder / "files"

    @property
    def base(self) -> Git:
        """Holds what the job began with and nothing made later."""
        return Git(self.folder / "base.git", self.files)

    @property
    def work(self) -> Git:
        """Holds what was made later and borrows the rest."""
        return Git(self.folder / "work.git", self.files)

    @property
    def index(self) -> Path:
        """The index that remembers which files were looked at."""
        return self.folder / "index"

    def create(self) -> None:
        """Make them, in a folder nobody else may read."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.files.mkdir()
        self.base.create()
        self.work.create(borrow=self.base.folder)


async def bring(
    workspace: Workspace,
    folder: Path,
    *,
    access: Access | None = None,
    commit: str | None = None,
    heard: Heard | None = None,
) -> tuple[Places, Base]:
    """Bring the files of a job to a folder of the brain.

    Args:
        workspace: What the job asks for.
        folder: An empty folder, or one that is not there yet.
        access: Opens a private repository.
        commit: The commit an earlier attempt began with, when the branch may have moved since.
        heard: Told how far a large repository has come.

    Raises:
        Refused: The repository, the ref or the folder in it is not there, or does not let us in.
        Unavailable: The repository did not answer.
    """
    places = Places(folder)
    await asyncio.to_thread(places.create)
    match workspace:
        case GitSource():
            return places, await _fetch(places, workspace, access, commit, heard)
        case FileSet():
            return places, await _lay_out(places, workspace)
        case Empty():
            return places, Base(None, EMPTY_TREE, EMPTY_TREE)


async def _lay_out(places: Places, given: FileSet) -> Base:
    contents = {path: text.encode() for path, text in given.files.items()} | dict(given.binary)
    await asyncio.to_thread(_write, places.files, contents, given)
    await places.base.ask("add", "--all", "--force", index=places.index)
    tree = await places.base.ask_line("write-tree", index=places.index)
    return Base(None, tree, tree)


def _write(files: Path, contents: dict[str, bytes], given: FileSet) -> None:
    programs = set(given.executable)
    for path in (*contents, *given.links):  # links come last: no file is written through one
        place = files / path
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            if path in given.links:
                place.symlink_to(given.links[path])
                continue
            with place.open("xb") as file:
                file.write(contents[path])
            if path in programs:
                place.chmod(0o755)
        except (FileExistsError, NotADirectoryError):
            raise Refused(
                f"{path!r} is given twice, or as a file and a folder.", hint="Rename one of them."
            ) from None
        except OSError as error:
            raise Refused(
                f"{path!r} cannot be a file: {error.strerror}.", hint="Give it another name."
            ) from None


async def _fetch(
    places: Places,
    source: GitSource,
    access: Access | None,
    commit: str | None,
    heard: Heard | None,
) -> Base:
    ref = _checked(commit or source.ref)
    with granted(source.url, access, places.folder) as grant:
        said = await places.base.run(
            *grant.settings,
            "fetch",
            "--progress",
            "--no-tags",
            "--no-recurse-submodules",
            f"--depth={source.depth}",
            "--",
            source.url,
            ref,
            extra=grant.environment,
            heard=heard,
            idle_seconds=IDLE_SECONDS,
        )
        if said.status:
            raise why_not_fetched(source.url, ref, said, hide=grant.secrets)
    head = await places.base.ask_line("rev-parse", "--verify", "FETCH_HEAD^{commit}")
    base = await _found(places, source, head)
    await check_out(places, base.shown)
    return base


async def _found(places: Places, source: GitSource, head: str) -> Base:
    tree = await places.base.ask_line("rev-parse", "--verify", f"{head}^{{tree}}")
    subdir = "/".join(part for part in (source.subdir or "").split("/") if part not in ("", "."))
    if not subdir:
        return Base(head, tree, tree)
    shown = (
        (await places.base.run("rev-parse", "--verify", f"{head}:{subdir}")).out.decode().strip()
    )
    if not shown or await places.base.ask_line("cat-file", "-t", shown) != "tree":
        raise Refused(
            f"There is no folder {subdir!r} in {source.ref} of {source.url}.",
            hint="Correct `subdir` of the workspace, or leave it out.",
        )
    return Base(head, tree, shown, subdir)


async def check_out(places: Places, tree: str) -> None:
    """Write a tree into the mirror, which is empty, and remember each file in the index.

    Raises:
        Refused: It holds a path that no checkout of Git may write.
    """
    said = await places.work.run("read-tree", tree, index=places.index)
    if said.status and "invalid path" in said.err:
        raise Refused(
            f"The repository cannot be checked out: {said.err.strip()[-300:]}",
            hint="Remove that path from the repository.",
        )
    if said.status:
        await places.work.ask("read-tree", tree, index=places.index)
    await places.work.ask("checkout-index", "--all", "--index", "--quiet", index=places.index)


def _checked(ref: str) -> str:
    if _NO_REF.search(ref):
        raise Refused(f"{ref!r} is not a branch, tag or commit.", hint="Correct `ref`.")
    return ref


def why_not_fetched(url: str, ref: str, said: Said, *, hide: Sequence[str]) -> FlowForgeError:
    """What a failed fetch means to the person who asked for the job."""
    words = said.err.strip()[-500:]
    for secret in hide:
        words = words.replace(secret, "***")
    low = words.lower()
    if "find remote ref" in low or "not our ref" in low or "no such remote ref" in low:
        return Refused(
            f"{url} has no {ref!r}.", hint="Name a branch, a tag or all 40 digits of a commit."
        )
    if "dubious ownership" in low:
        return Refused(
            f"{url} belongs to another user of this machine.",
            hint="Give its URL, or make a clone of your own.",
        )
    if any(sign in low for sign in _NOT_LET_IN):
        return Refused(
            f"{url} did not let us in: {words}",
            hint="Save access to it with `flowforge repo add NAME`, and name it in `secret` of the "
            "workspace.",
        )
    if any(sign in low for sign in _NOT_THERE):
        return Refused(
            f"There is no repository at {url}: {words}",
            hint="Correct the URL; a private repository needs `secret` as well.",
        )
    return Unavailable(f"{url} could not be fetched: {words}", hint="Try again later.")
