"""What each process of the platform is told."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from flowforge.engines.postgres import installations
from flowforge.engines.postgres.cluster import Cluster
from flowforge.local.database import AGENTS, OwnPostgres
from flowforge.local.layout import Layout
from flowforge.local.state import StateFolder
from flowforge.settings import read_settings


def a_layout(folder: Path) -> Layout:
    cluster = Cluster(installations.newest_server(), folder / "data", folder)
    passwords = dict.fromkeys(("flowforge", "prefect", "shop", AGENTS), "secret")
    ports = {"api": 1, "ui": 2, "metrics": 3, "model": 4}
    postgres = OwnPostgres(StateFolder(folder), cluster, passwords)
    return Layout(read_settings(), StateFolder(folder), ports, postgres)


def test_a_shell_with_our_environment_switched_on_starts_nothing_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = a_layout(tmp_path).server_part().environment
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    assert a_layout(tmp_path).server_part().environment == plain
    monkeypatch.setenv("PATH", f"/srv/bin:{os.environ['PATH']}")
    assert a_layout(tmp_path).server_part().environment != plain


def test_only_the_server_and_the_workers_of_jobs_are_told_where_sandboxes_are_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///srv/docker.sock")
    monkeypatch.setenv("KUBECONFIG", "/srv/kube.yaml")
    layout = a_layout(tmp_path)
    parts = [layout.server_part(), layout.model_part(), *layout.worker_parts({})]

    told = {one.name for one in parts if one.environment.get("KUBECONFIG") == "/srv/kube.yaml"}

    assert told == {one.name for one in parts if "DOCKER_HOST" in one.environment}
    assert "server" in told
    assert {name.partition("-")[2] for name in told - {"server"}} == {"workers"}
