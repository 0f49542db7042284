"""Whatever a job does to its files: the patch carries it, and applies for somebody else."""

from __future__ import annotations

import asyncio
import shutil
from base64 import b64encode
from pathlib import Path

import pytest

from flowforge.engines.agent.patch import Patch, make_patch, why_not_proven
from flowforge.engines.agent.sources import bring
from flowforge.engines.agent.trees import Trees
from flowforge.rules.jobs.spec import Empty, FileSet, GitSource
from tests.engines.agent.repositories import Desk, applied, commit, git, repository

FILES = {
    "README.md": b"# Shop\n\n" + b"A line of text.\n" * 20,
    "src/a.py": b"def a():\n    return 1\n",
    "src/b.py": b"def b():\n    return 2\n",
    "run.sh": b"#!/bin/sh\necho hi\n",
    "data.bin": bytes(range(256)) * 40,
    "dos.txt": b"one\r\ntwo\r\n",
    "bare.txt": b"no newline at the end",
    "empty": b"",
}

CHANGES = {
    "nothing": "true",
    "rename": "mv README.md GUIDE.md; echo more >> GUIDE.md",
    "mode": "chmod +x run.sh",
    "symlink": "ln -s src/a.py link; ln -s /etc/passwd out; ln -s nowhere dangling",
    "file becomes symlink": "rm run.sh; ln -s src/a.py run.sh",
    "file becomes folder": "rm run.sh; mkdir run.sh; echo x > run.sh/inner",
    "folder becomes file": "rm -r src; echo x > src",
    "binary": "head -c 300 data.bin > cut; cat cut cut >> data.bin; rm cut; cp data.bin more",
    "delete": "rm src/b.py empty",
    "untracked": "mkdir -p new/deep; echo x > new/deep/file; : > new/empty",
    "line ends": r"printf 'one\r\nthree\r\n' > dos.txt; printf 'x\ry\n' > mac.txt",
    "no final newline": "printf 'still none' > bare.txt; printf 'lost' > src/a.py",
    "names": r"echo x > 'a b'; echo x > $'new\nline'; echo x > $'\u202eltr'; echo x > '😀'; "
    r"""echo x > $'qu"ote\t'; echo x > -rf; echo x > $'\xff\xfe'; echo x > $'e\u0301'; echo >é""",
    "attributes": "echo '* text eol=crlf working-tree-encoding=UTF-16' > .gitattributes; "
    "echo '*.py ident filter=evil diff=evil' >> .gitattributes; echo '# $Id$' >> src/a.py; "
    r"printf 'x\r\ny\n' > mixed.txt",
    "its own commits": "git init -q; git config user.name a; git config user.email b; git add src; "
    "git commit -qm one; echo 3 >> src/a.py; git commit -qam two; rm src/b.py",
    "a repository inside": "git init -q inner; echo x > inner/file; mkdir -p d/.git; echo y > d/f",
}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return repository(tmp_path_factory.mktemp("shop") / "origin", FILES)


def patch_of(source: GitSource | FileSet | Empty, folder: Path, script: str) -> tuple[Patch, Desk]:
    async def work() -> tuple[Patch, Desk]:
        desk = await Desk.of(source, folder)
        await desk.run(script)
        return await desk.patch(), desk

    return asyncio.run(work())


@pytest.mark.parametrize("name", CHANGES)
def test_the_patch_gives_somebody_else_what_the_job_left(
    shop: Path, tmp_path: Path, name: str
) -> None:
    patch, desk = patch_of(GitSource(url=str(shop)), tmp_path, CHANGES[name])
    git(tmp_path, "clone", "--quiet", f"file://{shop}", "clone")
    theirs = applied(patch, tmp_path / "clone")
    for path in desk.here.rglob(".git"):
        shutil.rmtree(path)
    git(desk.here, "init", "--quiet")
    (desk.here / ".git/info/attributes").write_text("* -text !filter !working-tree-encoding\n")
    left = git(commit(desk.here), "rev-parse", "HEAD^{tree}")
    assert (patch.proven, patch.why_not) == (True, None)
    assert theirs == left == patch.tree
    assert bool(patch.content) == (name != "nothing") == bool(patch.files)


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [(b"+two", b"+three", "it gives the tree"), (b"-one", b"-none", "it does not apply")],
)
def test_a_patch_that_is_not_what_the_job_left_is_not_proven(
    tmp_path: Path, old: bytes, new: bytes, why: str
) -> None:
    async def work() -> None:
        places, base = await bring(FileSet(files={"a": "one\n"}), tmp_path / "job")
        (places.files / "a").write_text("two\n")
        kept = await Trees(places, base).keep()
        patch = await make_patch(places, base, kept)
        assert old in patch.content
        said = await why_not_proven(places, base, patch.content.replace(old, new), patch.tree)
        assert said
        assert said.startswith(why)

    asyncio.run(work())


def test_a_change_of_bytes_is_proven_by_the_patch_alone(tmp_path: Path) -> None:
    async def work() -> None:
        places, base = await bring(FileSet(binary={"a": b64encode(bytes(200))}), tmp_path / "job")
        (places.files / "a").write_bytes(bytes(range(256)))
        patch = await make_patch(places, base, await Trees(places, base).keep())
        assert patch.proven
        line = next(line for line in patch.content.split(b"\n") if line.startswith(b"z"))
        broken = patch.content.replace(line, line[:-1] + (b"0" if line[-1:] != b"0" else b"1"))
        assert await why_not_proven(places, base, broken, patch.tree)

    asyncio.run(work())


def test_the_patch_says_what_it_does_to_each_file(shop: Path, tmp_path: Path) -> None:
    script = "mv README.md GUIDE.md; rm empty; echo >> src/a.py; echo -n > data.bin; ln -s x y"
    patch, _ = patch_of(GitSource(url=str(shop)), tmp_path, script)
    said = {file.path: (file.change, file.insertions, file.before) for file in patch.files}
    assert said == {
        "GUIDE.md": ("renamed", 0, "README.md"),
        "data.bin": ("changed", None, None),
        "empty": ("deleted", 0, None),
        "src/a.py": ("changed", 1, None),
        "y": ("added", 1, None),
    }
    assert (patch.insertions, patch.deletions) == (2, 0)
    assert patch.commit == git(shop, "rev-parse", "HEAD")


def test_a_job_on_a_folder_sees_only_it_and_its_patch_applies_at_the_root(
    shop: Path, tmp_path: Path
) -> None:
    source = GitSource(url=str(shop), subdir="src/")
    patch, desk = patch_of(source, tmp_path, "seen=$(ls); echo $seen > seen; mv a.py c.py; rm b.py")
    git(tmp_path, "clone", "--quiet", f"file://{shop}", "clone")
    assert applied(patch, tmp_path / "clone") == patch.tree
    assert (desk.here / "seen").read_text() == "a.py b.py\n"
    assert {file.path for file in patch.files} == {"src/b.py", "src/c.py", "src/seen"}
    assert patch.proven


def test_a_folder_with_an_odd_name_is_found(tmp_path: Path) -> None:
    files = {"[a]*/x": b"1\n", "a/x": b"1\n", "[a]* more/x": b"1\n"}
    origin = repository(tmp_path / "origin", files)
    patch, _ = patch_of(GitSource(url=str(origin), subdir="[a]*"), tmp_path, "echo 2 > x")
    assert (patch.proven, [file.path for file in patch.files]) == (True, ["[a]*/x"])


def test_a_folder_emptied_by_its_job_is_gone_in_the_patch(shop: Path, tmp_path: Path) -> None:
    patch, _ = patch_of(GitSource(url=str(shop), subdir="src"), tmp_path, "rm *")
    git(tmp_path, "clone", "--quiet", f"file://{shop}", "clone")
    assert applied(patch, tmp_path / "clone") == patch.tree
    assert not (tmp_path / "clone/src").exists()


@pytest.mark.parametrize(
    ("source", "script", "changed"),
    [
        (Empty(), "true", set()),
        (Empty(), "echo x > a", {"a"}),
        (FileSet(files={"a": "1\n", "d/b": "2\n"}), "echo x > d/b; rm a", {"a", "d/b"}),
        (FileSet(files={".gitignore": "*\n", "a": "1\n"}), "echo x > a", {"a"}),
        (FileSet(binary={"a": b"AP8="}), "printf '\\1' >> a", {"a"}),
    ],
)
def test_files_without_a_repository_are_their_own_base(
    tmp_path: Path, source: FileSet | Empty, script: str, changed: set[str]
) -> None:
    patch, _ = patch_of(source, tmp_path, script)
    assert patch.proven
    assert {file.path for file in patch.files} == changed
    assert patch.commit is None


def test_a_repository_without_files_works(tmp_path: Path) -> None:
    origin = repository(tmp_path / "origin", {})
    patch, _ = patch_of(GitSource(url=str(origin)), tmp_path / "job", "echo x > a")
    assert (patch.proven, [file.path for file in patch.files]) == (True, ["a"])


def test_what_gitignore_names_is_not_in_the_patch_but_counted(tmp_path: Path) -> None:
    origin = repository(
        tmp_path / "origin", {".gitignore": b"*.log\nkept.log\n", "kept.log": b"1\n"}
    )
    script = "echo 2 > kept.log; echo x > new.log; mkdir __pycache__; echo x > __pycache__/a.pyc"

    async def work() -> tuple[int, Patch]:
        desk = await Desk.of(GitSource(url=str(origin)), tmp_path / "job")
        step = await desk.run(script)
        return step.kept.ignored, await desk.patch()

    ignored, patch = asyncio.run(work())
    assert ignored == 2
    assert patch.proven
    assert [file.path for file in patch.files] == ["kept.log"]
