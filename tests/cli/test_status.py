"""How another environment is told of, by a Prefect profile that names it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cli.conftest import Command
from tests.client.relay import Relay

DATABASES = [
    {"server": "shop", "database": "app", "newest_copy": "backup-20261124-060000"}
    | {"age_seconds": 170.0, "level": 3, "proof_age_seconds": 160.0},
    {"server": "shop", "database": "web", "newest_copy": "backup-20261124-050000"}
    | {"age_seconds": 3600.0, "level": 3, "failed": True},
]
POOL = "flowforge-operations"


def name_profile(flowforge: Command, url: str) -> None:
    folder = flowforge.folder / "prefect"
    folder.mkdir()
    (folder / "profiles.toml").write_text(f'[profiles.staging]\nPREFECT_API_URL = "{url}"\n')


def pools_of(relay: Relay) -> list[str]:
    return [pool["name"] for pool in relay.post("work_pools/filter", {})]


@pytest.fixture
def staging(flowforge: Command, relayed: tuple[Relay, str]) -> Relay:
    """A ready server that a profile names, with a pool that no worker serves."""
    relay, url = relayed
    name_profile(flowforge, url)
    relay.answer_ready()
    relay.answer("status", status="ok", version="0.1.0", prefect="3.8.8", databases=DATABASES)
    if POOL not in pools_of(relay):
        relay.post("work_pools/", {"name": POOL, "type": "process"})
    return relay


@pytest.fixture
def served(staging: Relay) -> Iterator[Relay]:
    """The same, with a worker in each pool that is FlowForge's."""
    for pool in pools_of(staging):
        beat = f"/api/work_pools/{pool}/workers/heartbeat"
        staging.prefect.post(beat, json={"name": f"w-{pool}"}).raise_for_status()
    yield staging
    for pool in pools_of(staging):
        staging.prefect.delete(f"/api/work_pools/{pool}/workers/w-{pool}").raise_for_status()


def test_another_environment_shows_its_pools_and_its_newest_copies(
    served: Relay, flowforge: Command
) -> None:
    said = flowforge("status", "--profile", "staging")
    assert said.code == 0, said.err
    lines = [line.split() for line in said.out.splitlines()]
    assert [POOL, "process", "1"] in lines
    assert ["shop", "app", "backup-20261124-060000", "3", "min", "L3", "3", "min", "ago"] in lines
    assert ["shop", "web", "backup-20261124-050000", "60", "min", "failed", "never"] in lines
    assert said.out.endswith("Everything runs.\n")


def test_another_environment_is_told_of_in_json(served: Relay, flowforge: Command) -> None:
    answer = flowforge("status", "--profile", "staging", "--json").json
    said = (answer["is_running"], answer["profile"], answer["version"])
    assert said == (True, "staging", "0.1.0")
    assert {pool["name"]: pool["workers_online"] for pool in answer["pools"]}[POOL] == 1
    assert [entry["age_seconds"] for entry in answer["databases"]] == [170.0, 3600.0]


def test_a_pool_without_a_worker_is_not_well(staging: Relay, flowforge: Command) -> None:
    said = flowforge("status", "--profile", "staging")
    assert said.code == 1
    assert "No worker is online in flowforge-" in said.out


def test_a_server_that_takes_no_writes_says_why_at_once(staging: Relay, flowforge: Command) -> None:
    staging.answer_ready("the disk is full")
    said = flowforge("status", "--profile", "staging", "--json")
    assert said.code == 1
    assert said.json["summary"] == "The server does not take writes: the disk is full."
    assert [path for path in staging.seen if "ready" not in path] == []


def test_a_server_that_is_only_prefect_is_not_flowforge(
    flowforge: Command, relayed: tuple[Relay, str]
) -> None:
    name_profile(flowforge, relayed[1])
    said = flowforge("status", "--profile", "staging")
    assert said.code == 3
    assert "not by FlowForge" in said.err


def test_nothing_started_here_is_1_and_says_how_to(flowforge: Command) -> None:
    said = flowforge("status", "--json")
    assert said.code == 1
    assert "flowforge up" in said.json["summary"]
