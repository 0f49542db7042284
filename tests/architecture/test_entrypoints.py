"""Prefect imports a flow file by its bare stem, so a stem must not hide anything; and every
deployment of prefect.yaml must be there to import."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]

LOAD = """
import json, sys
from prefect import Flow
from prefect.flows import load_flow_from_entrypoint

loaded = {}
for entrypoint in sys.argv[1:]:
    flow = load_flow_from_entrypoint(entrypoint)
    loaded[entrypoint] = flow.name if isinstance(flow, Flow) else None
print(json.dumps(loaded))
"""


def hidden_modules(folder: Path) -> list[str]:
    """Stems in a folder that are also the names of modules anybody could import."""
    stems = sorted(path.stem for path in folder.iterdir() if not path.name.startswith(("_", ".")))
    return [stem for stem in stems if stem in sys.stdlib_module_names or find_spec(stem)]


def read_deployments(folder: Path) -> list[tuple[str, str]]:
    """Entrypoint and name of every deployment in prefect.yaml."""
    entries = yaml.safe_load((folder / "prefect.yaml").read_text())["deployments"]
    return [(entry["entrypoint"], entry["name"]) for entry in entries]


def load_flows(folder: Path, entrypoints: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", LOAD, *entrypoints],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


def test_no_flow_file_hides_a_module() -> None:
    assert hidden_modules(ROOT / "flows") == []


@pytest.mark.parametrize("stem", ["json", "anthropic", "docker", "tasks", "alembic"])
def test_a_flow_file_that_hides_a_module_is_named(tmp_path: Path, stem: str) -> None:
    (tmp_path / f"{stem}.py").touch()
    (tmp_path / "restore_of_everything.py").touch()
    assert hidden_modules(tmp_path) == [stem]


def test_every_deployment_imports() -> None:
    deployments = read_deployments(ROOT)
    loaded = load_flows(ROOT, [entrypoint for entrypoint, _ in deployments])
    assert loaded.returncode == 0, loaded.stderr[-1500:]
    flows = json.loads(loaded.stdout.splitlines()[-1])
    names = [f"{flows[entrypoint]}/{name}" for entrypoint, name in deployments]
    assert all(flows.values())
    assert len(set(names)) == len(names) >= 3


def test_a_deployment_without_its_flow_is_found(tmp_path: Path) -> None:
    (tmp_path / "prefect.yaml").write_text(
        "deployments: [{name: nightly, entrypoint: 'flows/gone.py:gone'}]"
    )
    loaded = load_flows(tmp_path, [entrypoint for entrypoint, _ in read_deployments(tmp_path)])
    assert loaded.returncode != 0
    assert "gone" in loaded.stderr
