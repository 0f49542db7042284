"""A relay in front of the session's Prefect server, and an environment that names nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.client.relay import Relay, run_relay
from tests.prefect_server import prefect_url

__all__ = ["prefect_url"]


@pytest.fixture(autouse=True)
def nothing_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("FLOWFORGE_API_URL", "PREFECT_API_URL", "PREFECT_PROFILE", "PREFECT_UI_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("PREFECT_API_AUTH_STRING", raising=False)
    monkeypatch.delenv("PREFECT_PROFILES_PATH", raising=False)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    monkeypatch.setenv("FLOWFORGE_STATE", str(tmp_path / "state"))


@pytest.fixture
def relayed(prefect_url: str) -> Iterator[tuple[Relay, str]]:
    with run_relay(prefect_url) as (relay, url):
        relay.deploy("probe", "now", "server", optional=("database", "note"))
        yield relay, url


@pytest.fixture
def relay(relayed: tuple[Relay, str]) -> Relay:
    return relayed[0]


@pytest.fixture
def url(relayed: tuple[Relay, str]) -> str:
    return relayed[1]
