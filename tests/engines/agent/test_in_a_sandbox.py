"""Tools and files together in a real sandbox of this machine."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from flowforge.engines.agent.redaction import Redactor
from flowforge.engines.agent.tools import BASH, EDIT, Call, Tools
from flowforge.engines.agent.workspace import Workspace
from flowforge.engines.sandboxes.local import LocalProvider
from flowforge.rules.jobs.spec import FileSet, GitSource, JobSpec, SandboxChoice
from tests.engines.agent.repositories import applied, git, repository


def test_a_job_edits_and_runs_its_program_and_its_patch_applies(tmp_path: Path) -> None:
    if why := LocalProvider().why_not():
        pytest.skip(str(why))
    made = repository(tmp_path / "origin", {"add.py": b"def add(a, b):\n    return a - b\n"})
    (tmp_path / "outputs").mkdir()
    choice = SandboxChoice(memory_mb=256, disk_mb=64)
    spec = JobSpec(prompt="x", workspace=GitSource(url=str(made)), sandbox=choice)
    check = "export SEEN=1; mkdir -p t; cd t; python3 -c 'from add import add; print(add(1, 2))'"

    async def work() -> None:
        files = await Workspace.bring(spec.workspace, tmp_path / "brain")
        sandbox = await LocalProvider().open("a-job", 1, choice)
        try:
            await files.give(sandbox)
            tools = Tools(spec, sandbox, tmp_path / "outputs", Redactor({}))
            edit = {"command": "str_replace", "path": "add.py", "old_str": "a - b"}
            calls = [
                Call("1", BASH, {"command": f"export PYTHONPATH=$PWD; {check}"}),
                Call("2", EDIT, {**edit, "new_str": "a + b"}),
                Call("3", BASH, {"command": "pwd; python3 -c 'import add; print(add.add(1, 2))'"}),
                Call("4", BASH, {"command": "cd ..; mkfifo pipe; git init -q .; seq 5 > new"}),
            ]
            said = [(await tools.run(call)).content for call in calls]
            assert said[0] == "-1"
            assert said[2] == f"{sandbox.workspace}/t\n3"
            step = await files.keep(sandbox)
        finally:
            await sandbox.close()
        patch = await files.patch()
        assert {file.path for file in patch.files} == {"add.py", "new"}
        assert patch.proven
        assert [one.path for one in step.kept.left_out] == ["t"]
        git(tmp_path, "clone", "--quiet", f"file://{made}", "clone")
        assert applied(patch, tmp_path / "clone") == patch.tree

    asyncio.run(work())


def test_a_program_that_came_with_the_job_runs_and_its_mode_is_nobodys_change(
    tmp_path: Path,
) -> None:
    if why := LocalProvider().why_not():
        pytest.skip(str(why))
    script = {"run.sh": "#!/bin/sh\necho ran > out\n", "data.txt": "x\n"}
    given = FileSet(files=script, executable=("run.sh",), links={"bin/go": "../run.sh"})
    choice = SandboxChoice(memory_mb=256, disk_mb=64)
    spec = JobSpec(prompt="x", workspace=given, sandbox=choice)

    async def work() -> None:
        files = await Workspace.bring(given, tmp_path / "brain")
        sandbox = await LocalProvider().open("a-job", 1, choice)
        try:
            await files.give(sandbox)
            tools = Tools(spec, sandbox, tmp_path, Redactor({}))
            said = await tools.run(Call("1", BASH, {"command": "bin/go && ls -F bin"}))
            assert said.content == "go@"
            await files.keep(sandbox)
        finally:
            await sandbox.close()
        patch = await files.patch()
        assert patch.proven
        assert b"mode 100755" not in patch.content
        assert b"old mode" not in patch.content
        assert [file.path for file in patch.files] == ["out"]

    asyncio.run(work())
