"""Imports go down, and what must work without Prefect imports without it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

WITHOUT_PREFECT = """
import importlib, pkgutil, sys

class Wall:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "prefect":
            raise ImportError(f"{name} is out of bounds here")
        return None

sys.meta_path.insert(0, Wall())
"""
IMPORT_ALL = """
for name in sys.argv[1:]:
    package = importlib.import_module(name)
    for module in pkgutil.walk_packages(getattr(package, "__path__", ()), name + "."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    print(name)
"""

BREAKS = [
    ("flowforge/rules/new.py", "import flowforge.engines", "Inside the library, too"),
    ("flowforge/engines/new.py", "import prefect", "Engines work with Prefect down"),
    ("flowforge/ledger/new.py", "import tasks.step", "Imports go down the floors, never up"),
    ("flowforge/local/new.py", "import tasks.step", "The local platform acts as an operator would"),
    ("flowforge/rules/new.py", "import socket", "Rules are pure"),
    ("flows/new.py", "import blocks", "Flows touch nothing themselves"),
    ("tasks/new.py", "import flowforge.twin", "Only the laptop knows the twin"),
]


def lint(project: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "import importlinter.cli as c; c.lint_imports_command()"]
    return subprocess.run(
        [*command, "--no-cache", "--config", str(project / "pyproject.toml")],
        cwd=project,
        env={**os.environ, "PYTHONPATH": str(project)},
        capture_output=True,
        text=True,
        check=False,
    )


def import_without_prefect(project: Path, *names: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", WITHOUT_PREFECT + IMPORT_ALL, *names],
        cwd=project,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def small_house(tmp_path: Path) -> Path:
    """A house of empty rooms under our own contracts."""
    rooms = ["flows", "tasks", "blocks", "work_pools", "flowforge"]
    rooms += [f"flowforge/{name}" for name in ("local", "twin", "client", "server", "deploy")]
    rooms += [f"flowforge/{name}" for name in ("engines", "ledger", "rules")]
    for room in rooms:
        (tmp_path / room).mkdir()
        (tmp_path / room / "__init__.py").touch()
    for module in ("cli", "settings", "errors", "automations", "terminal"):
        (tmp_path / "flowforge" / f"{module}.py").touch()
    (tmp_path / "tasks" / "step.py").touch()
    (tmp_path / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text())
    return tmp_path


def test_imports_go_down_the_floors() -> None:
    linted = lint(ROOT)
    assert linted.returncode == 0, linted.stdout


def test_a_house_of_empty_rooms_keeps_every_contract(small_house: Path) -> None:
    linted = lint(small_house)
    assert linted.returncode == 0, linted.stdout + linted.stderr


@pytest.mark.parametrize(("file", "line", "contract"), BREAKS)
def test_an_import_that_goes_up_is_named(
    small_house: Path, file: str, line: str, contract: str
) -> None:
    (small_house / file).write_text(f"{line}\n")
    linted = lint(small_house)
    assert linted.returncode == 1
    assert f"{contract} BROKEN" in linted.stdout
    assert file.removesuffix(".py").replace("/", ".") in linted.stdout


def test_what_works_with_prefect_down_imports_without_it() -> None:
    names = ["rules", "engines", "ledger", "client", "settings", "errors", "cli"]
    done = import_without_prefect(ROOT, *(f"flowforge.{name}" for name in names))
    assert done.returncode == 0, done.stderr[-800:]
    assert len(done.stdout.split()) == len(names)


def test_a_server_starts_without_the_large_clients() -> None:
    large = {"anthropic", "boto3", "docker", "kubernetes_asyncio"}
    script = "import sys, flowforge.server.assembly; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert large.isdisjoint(done.stdout.split())


def test_an_import_of_prefect_behind_two_corners_is_found(tmp_path: Path) -> None:
    (tmp_path / "engine").mkdir()
    (tmp_path / "engine/__init__.py").touch()
    (tmp_path / "engine/deep.py").write_text("import middle\n")
    (tmp_path / "middle.py").write_text("from prefect import flow\n")
    done = import_without_prefect(tmp_path, "engine")
    assert done.returncode == 1
    assert "prefect is out of bounds here" in done.stderr


@pytest.mark.parametrize("words", [["--help"], ["status"], ["doctor"], ["down"]], ids=" ".join)
def test_the_commands_for_bad_days_never_import_prefect(words: list[str], tmp_path: Path) -> None:
    run = "import flowforge.cli; sys.argv = ['flowforge', *sys.argv[1:]]; flowforge.cli.main()"
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_PREFECT + run, *words],
        cwd=tmp_path,
        env={**os.environ, "FLOWFORGE_STATE": str(tmp_path / "state")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "out of bounds" not in done.stderr
    assert "Traceback" not in done.stderr
    assert done.returncode in (0, 1), done.stderr
