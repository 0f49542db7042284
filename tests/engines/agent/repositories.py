"""Real repositories to bring jobs from, and a job's files at work on them."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from flowforge.engines.agent.patch import Patch
from flowforge.engines.agent.workspace import Step, Workspace
from flowforge.rules.jobs import spec
from tests.engines.agent.folder_sandbox import FolderSandbox

_WHO = {
    f"GIT_{who}_{what}": "someone" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
}


def git(folder: Path, *args: str, input: bytes = b"") -> str:
    """What a person's Git says, without the settings of who runs the tests."""
    env = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "GIT_CONFIG_NOSYSTEM": "1", **_WHO}
    said = subprocess.run(
        ["git", "-C", str(folder), *args], input=input, env=env, check=True, capture_output=True
    )
    return said.stdout.decode().strip()


def repository(folder: Path, files: dict[str, bytes]) -> Path:
    """A repository with one commit, of any files."""
    folder.mkdir()
    git(folder, "init", "--quiet", "--initial-branch=main")
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    return commit(folder)


def commit(folder: Path) -> Path:
    """Commit all there is."""
    git(folder, "-c", "core.autocrlf=false", "add", "--all", "--force")
    git(folder, "commit", "--quiet", "--allow-empty", "--message", "one more")
    return folder


def tree_of(folder: Path) -> str:
    return git(folder, "rev-parse", "HEAD^{tree}")


@dataclass
class Desk:
    """A job's files in the brain and in a sandbox."""

    files: Workspace
    sandbox: FolderSandbox

    @classmethod
    async def of(cls, wanted: spec.Workspace, folder: Path) -> Desk:
        desk = cls(
            await Workspace.bring(wanted, folder / "brain"), FolderSandbox(folder / "sandbox")
        )
        await desk.files.give(desk.sandbox)
        return desk

    @property
    def here(self) -> Path:
        """The workspace as the job's commands see it."""
        return Path(self.sandbox.workspace)

    async def run(self, script: str) -> Step:
        """Run a script of the job and keep what it left."""
        ran = await self.sandbox.exec(["bash", "-ec", script], timeout_seconds=60)
        assert ran.status == 0, ran.head.decode()
        return await self.files.keep(self.sandbox)

    async def patch(self) -> Patch:
        return await self.files.patch()


def applied(patch: Patch, clone: Path) -> str:
    """The tree a person gets who applies a patch to a clone and commits it."""
    if patch.content:
        git(clone, "apply", "--index", "--whitespace=nowarn", "-", input=patch.content)
    git(clone, "commit", "--quiet", "--allow-empty", "--message", "the patch")
    return tree_of(clone)
