"""Try the access to a repository: ask for its newest commit, and bring nothing."""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import dataclass
from pathlib import Path

from flowforge.engines.agent.git import Git
from flowforge.engines.agent.sources import why_not_fetched
from flowforge.engines.agent.sources_access import Access, granted
from flowforge.errors import Refused

_IDLE_SECONDS = 30.0
_BRANCHES = "refs/heads/"


@dataclass(frozen=True)
class Newest:
    """What a repository begins with when nothing else is asked for."""

    branch: str | None
    commit: str | None
    """`None` when there is none yet."""


def try_access(name: str, url: str, access: Access) -> Newest:
    """Ask a repository for its newest commit, with the same care as a job does.

    Args:
        name: By which the access is saved.
        url: Of a repository it opens.
        access: To it.

    Raises:
        Refused: It is not there, or does not let us in.
        Unavailable: It did not answer.
    """
    try:
        return asyncio.run(_ask(url, access))
    except Refused as error:
        raise Refused(
            error.message,
            hint="Check the URL and what this access may read, then save it again: "
            f"`flowforge repo add {name} --url URL`.",
        ) from error


async def _ask(url: str, access: Access) -> Newest:
    with tempfile.TemporaryDirectory(prefix="flowforge-repo-") as folder:
        git = Git(Path(folder) / "git")
        await asyncio.to_thread(git.create)
        with granted(url, access, Path(folder)) as grant:
            said = await git.run(
                *grant.settings,
                "ls-remote",
                "--symref",
                "--",
                url,
                "HEAD",
                extra=grant.environment,
                idle_seconds=_IDLE_SECONDS,
            )
            if said.status:
                raise why_not_fetched(url, "HEAD", said, hide=grant.secrets)
    return _read(said.out.decode(errors="replace"))


def _read(said: str) -> Newest:
    branch = commit = None
    for line in said.splitlines():
        what, _, name = line.partition("\t")
        if name == "HEAD" and what.startswith("ref: "):
            branch = what.removeprefix("ref: ").removeprefix(_BRANCHES)
        elif name == "HEAD":
            commit = what
    return Newest(branch, commit)
