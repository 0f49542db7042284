"""What each process of the platform is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from flowforge.engines.postgres import installations
from flowforge.engines.postgres.cluster import Cluster
from flowforge.local.database import AGENTS, OwnPostgres
from flowforge.local.layout import Layout
from flowforge.local.state import StateFolder
from flowforge.settings import read_settings


def test_only_the_server_and_the_workers_of_jobs_are_told_where_sandboxes_are_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///srv/docker.sock")
    monkeypatch.setenv("KUBECONFIG", "/srv/kube.yaml")
    cluster = Cluster(installations.newest_server(), tmp_path / "data", tmp_path)
    passwords = dict.fromkeys(("flowforge", "prefect", "shop", AGENTS), "secret")
    ports = {"api": 1, "ui": 2, "metrics": 3, "model": 4}
    postgres = OwnPostgres(StateFolder(tmp_path), cluster, passwords)
    layout = Layout(read_settings(), StateFolder(tmp_path), ports, postgres)
    parts = [layout.server_part(), layout.model_part(), *layout.worker_parts({})]

    told = {one.name for one in parts if one.environment.get("KUBECONFIG") == "/srv/kube.yaml"}

    assert told == {one.name for one in parts if "DOCKER_HOST" in one.environment}
    assert "server" in told
    assert {name.partition("-")[2] for name in told - {"server"}} == {"workers"}
