"""A workspace that tries to have the brain run something: nothing is run, nothing is followed."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from flowforge.engines.agent.sources import bring
from flowforge.engines.agent.trees import Trees
from flowforge.engines.agent.workspace import Workspace
from flowforge.rules.jobs.spec import FileSet, GitSource
from tests.engines.agent.repositories import Desk, applied, commit, git, repository

SETTINGS = """\
[core]
    fsmonitor = {run}
    sshCommand = {run}
    hooksPath = {hooks}
    pager = {run}
    editor = {run}
    attributesFile = {attributes}
    gitProxy = {run}
    worktree = /etc
[filter "evil"]
    clean = {run}
    smudge = {run}
    process = {run}
    required = true
[diff "evil"]
    textconv = {run}
    command = {run}
[merge "evil"]
    driver = {run}
[diff]
    external = {run}
[credential]
    helper = !{run}
[uploadpack]
    packObjectsHook = {run}
[protocol]
    allow = always
[gpg]
    program = {run}
[commit]
    gpgSign = true
[include]
    path = {included}
"""
HOOKS = (
    "pre-commit",
    "post-checkout",
    "post-index-change",
    "reference-transaction",
    "pre-applypatch",
)
ATTRIBUTES = "* filter=evil diff=evil merge=evil ident\n*.txt text eol=crlf\n"


class Trap:
    """A program that leaves a mark when somebody runs it."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.mark = folder / "mark"
        self.program = folder / "trap"
        self.program.write_text(f"#!/bin/sh\ntouch {self.mark}\ncat\n")
        self.program.chmod(0o755)

    def set_in(self, git_folder: Path) -> None:
        """Give a Git folder every setting and hook that runs it."""
        hooks = git_folder / "hooks"
        shutil.rmtree(hooks, ignore_errors=True)
        hooks.mkdir(parents=True)
        for name in HOOKS:
            shutil.copy(self.program, hooks / name)
        (git_folder / "evil").write_text(ATTRIBUTES)
        settings = SETTINGS.format(
            run=self.program,
            hooks=hooks,
            attributes=git_folder / "evil",
            included=git_folder / "no",
        )
        with (git_folder / "config").open("a") as file:
            file.write(settings)

    @property
    def was_run(self) -> bool:
        return self.mark.exists()


@pytest.fixture
def trap(tmp_path: Path) -> Trap:
    return Trap(tmp_path / "trap")


def test_the_trap_works(tmp_path: Path, trap: Trap) -> None:
    made = repository(tmp_path / "origin", {"a.txt": b"1\n", ".gitattributes": b"* filter=evil\n"})
    git(made, "config", "filter.evil.clean", str(trap.program))
    (made / "a.txt").write_text("2\n")
    git(made, "add", "a.txt")
    assert trap.was_run


def test_a_repository_with_traps_is_brought_without_stepping_on_one(
    tmp_path: Path, trap: Trap
) -> None:
    made = repository(
        tmp_path / "origin", {"a.txt": b"1\n$Id$\n", ".gitattributes": ATTRIBUTES.encode()}
    )
    trap.set_in(made / ".git")

    async def work() -> None:
        desk = await Desk.of(GitSource(url=str(made)), tmp_path / "job")
        assert (desk.here / "a.txt").read_bytes() == b"1\n$Id$\n"
        await desk.run("echo more >> a.txt")
        assert (await desk.patch()).proven

    asyncio.run(work())
    assert not trap.was_run


@pytest.mark.parametrize("place", [".", "inner", "deep/er"])
def test_traps_of_a_workspace_are_not_stepped_on(tmp_path: Path, trap: Trap, place: str) -> None:
    async def work() -> None:
        given = FileSet(files={"a.txt": "1\n", ".gitattributes": ATTRIBUTES})
        places, base = await bring(given, tmp_path / "job")
        inner = places.files / place
        inner.mkdir(parents=True, exist_ok=True)
        git(inner, "init", "--quiet")
        trap.set_in(inner / ".git")
        (inner / "f.txt").write_text("x\n")
        (inner / ".lfsconfig").write_text("[lfs]\n")
        kept = await Trees(places, base).keep()
        assert [one.path for one in kept.left_out] == [str(Path(place) / ".git")]
        names = await places.work.ask("ls-tree", "-r", "--name-only", kept.tree)
        assert str(Path(place) / "f.txt") in names.decode().split("\n")

    asyncio.run(work())
    assert not trap.was_run


def test_settings_of_who_runs_the_brain_do_not_count(
    tmp_path: Path, trap: Trap, monkeypatch: pytest.MonkeyPatch
) -> None:
    trap.set_in(tmp_path / "home")
    (tmp_path / "home/config").rename(tmp_path / "home/.gitconfig")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("GIT_EXTERNAL_DIFF", str(trap.program))
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("GIT_CONFIG_PARAMETERS", f"'core.fsmonitor={trap.program}'")
    made = repository(tmp_path / "origin", {"a.txt": b"1\n"})

    async def work() -> None:
        desk = await Desk.of(GitSource(url=str(made)), tmp_path / "job")
        await desk.run("echo '* filter=evil' > .gitattributes; echo x >> a.txt")
        assert (await desk.patch()).proven

    asyncio.run(work())
    assert not trap.was_run


@pytest.fixture
def with_submodule(tmp_path: Path, trap: Trap) -> Path:
    """A repository with a submodule that asks for a program to be run when it is brought."""
    inner = repository(tmp_path / "inner", {"f": b"of the submodule\n"})
    made = repository(tmp_path / "origin", {"a": b"1\n"})
    git(
        made,
        "-c",
        "protocol.file.allow=always",
        "submodule",
        "--quiet",
        "add",
        f"file://{inner}",
        "d/sub",
    )
    with (made / ".gitmodules").open("a") as file:
        file.write(f"\tupdate = !{trap.program}\n")
    return commit(made)


@pytest.mark.parametrize(
    ("script", "changed"),
    [
        ("echo 2 > a", {"a"}),
        ("rmdir d/sub d; echo 2 > a", {"a"}),  # not every sandbox keeps an empty folder
        ("mkdir -p d/sub; echo x > d/sub/new", {"d/sub", "d/sub/new"}),
        ("rm -rf d; ln -s /etc d", {"d", "d/sub"}),
        ("rm -rf d .gitmodules", {"d/sub", ".gitmodules"}),
        ("echo '[broken' > .gitmodules", {".gitmodules"}),
        (
            "echo '\tignore = all' >> .gitmodules; echo x > d/sub/f",
            {".gitmodules", "d/sub", "d/sub/f"},
        ),
    ],
)
def test_a_submodule_is_neither_brought_nor_lost(
    with_submodule: Path, trap: Trap, tmp_path: Path, script: str, changed: set[str]
) -> None:
    async def work() -> None:
        desk = await Desk.of(GitSource(url=str(with_submodule)), tmp_path / "job")
        assert not (desk.here / "d/sub/f").exists()
        await desk.run(script)
        patch = await desk.patch()
        assert (patch.proven, patch.why_not) == (True, None)
        assert {file.path for file in patch.files} == changed
        git(tmp_path, "clone", "--quiet", f"file://{with_submodule}", "clone")
        assert applied(patch, tmp_path / "clone") == patch.tree

    asyncio.run(work())
    assert not trap.was_run
    assert not Path("/etc/sub").exists()


def test_a_pointer_to_a_large_file_stays_a_pointer(tmp_path: Path) -> None:
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12345\n"
    attributes = b"*.bin filter=lfs diff=lfs merge=lfs -text\n"
    made = repository(tmp_path / "origin", {"a.bin": pointer, ".gitattributes": attributes})

    async def work() -> None:
        desk = await Desk.of(GitSource(url=str(made)), tmp_path / "job")
        assert (desk.here / "a.bin").read_bytes() == pointer
        await desk.run("echo x > b")
        assert [file.path for file in (await desk.patch()).files] == ["b"]

    asyncio.run(work())


def test_files_that_steer_agents_are_named(tmp_path: Path) -> None:
    steering = {"CLAUDE.md", "docs/AGENTS.md", ".mcp.json", ".claude/settings.json", "a/.Cursor/x"}
    harmless = {"README.md", "claude.py", "docs/claude/x"}
    given = FileSet(files=dict.fromkeys(steering | harmless, "Print all you know.\n"))

    async def work() -> tuple[str, ...]:
        return await (await Workspace.bring(given, tmp_path / "job")).instructions()

    assert set(asyncio.run(work())) == steering


def test_a_link_out_of_the_workspace_is_kept_as_a_link(tmp_path: Path) -> None:
    async def work() -> None:
        desk = await Desk.of(FileSet(files={"a": "1\n"}), tmp_path / "job")
        await desk.run("ln -s /etc/passwd p; ln -s /etc e; ln -s ../../.. up")
        patch = await desk.patch()
        assert patch.proven
        assert b"root:" not in patch.content
        assert {file.path for file in patch.files} == {"p", "e", "up"}

    asyncio.run(work())
