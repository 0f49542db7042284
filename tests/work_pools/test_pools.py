from __future__ import annotations

import json

import httpx
import pytest
from prefect.workers.process import ProcessWorker

from flowforge.errors import Refused
from flowforge.settings import Settings
from tests.prefect_server import run_module
from work_pools.pools import list_pools, read_template

COLD = Settings(warm=False)


def test_the_pools_are_made_once_and_then_left_alone(prefect_url: str) -> None:
    with httpx.Client(base_url=prefect_url) as api:
        for name in ("flowforge-operations", "flowforge-workers"):
            api.delete(f"/work_pools/{name}")
    environment = {"WORKER_CONCURRENCY": "3", "FLOWFORGE_WARM": "0"}

    first = run_module("work_pools", url=prefect_url, environment=environment)
    second = run_module("work_pools", "--json", url=prefect_url, environment=environment)

    assert first.returncode == second.returncode == 0, first.stderr + second.stderr
    assert "flowforge-operations: created" in first.stdout
    assert json.loads(second.stdout)["pools"] == {
        "flowforge-operations": [],
        "flowforge-workers": [],
    }
    workers = httpx.get(f"{prefect_url}/work_pools/flowforge-workers").json()
    assert (workers["type"], workers["concurrency_limit"]) == ("process", 3)
    queues = httpx.post(f"{prefect_url}/work_pools/flowforge-workers/queues/filter", json={}).json()
    by_priority = sorted(queues, key=lambda queue: int(queue["priority"]))
    assert [queue["name"] for queue in by_priority] == ["urgent", "default", "low"]


def test_what_differs_is_changed_and_a_pause_survives(prefect_url: str) -> None:
    run_module("work_pools", url=prefect_url)
    place = f"{prefect_url}/work_pools/flowforge-operations"
    httpx.patch(place, json={"is_paused": True, "description": "mine", "concurrency_limit": 99})

    answer = run_module("work_pools", url=prefect_url)

    found = httpx.get(place).json()
    assert "flowforge-operations: description, concurrency_limit" in answer.stdout
    assert found["is_paused"] is True
    assert found["concurrency_limit"] == 4
    httpx.patch(place, json={"is_paused": False})


def test_a_pool_of_another_type_is_refused(prefect_url: str) -> None:
    place = f"{prefect_url}/work_pools/flowforge-workers"
    httpx.delete(place)
    made = {"name": "flowforge-workers", "type": "docker", "base_job_template": {}}
    httpx.post(f"{prefect_url}/work_pools/", json=made).raise_for_status()

    answer = run_module("work_pools", "--json", url=prefect_url)

    httpx.delete(place)
    assert answer.returncode == 3
    assert "is of type docker" in json.loads(answer.stdout)["error"]["message"]


def test_an_unreachable_server_is_unavailable_with_a_hint() -> None:
    answer = run_module("work_pools", url="http://127.0.0.1:9/api")

    assert answer.returncode == 1
    assert "flowforge up" in answer.stderr
    assert "Traceback" not in answer.stderr


def test_a_job_variable_the_template_does_not_know_is_refused(prefect_url: str) -> None:
    run_module("work_pools", url=prefect_url)
    flow = httpx.post(f"{prefect_url}/flows/", json={"name": "pool-test"}).json()
    asked = {
        "name": "typo",
        "flow_id": flow["id"],
        "work_pool_name": "flowforge-operations",
        "job_variables": {"comand": "true"},
    }

    answer = httpx.post(f"{prefect_url}/deployments/", json=asked)

    assert answer.status_code in (409, 422), answer.text


def test_the_template_has_every_setting_of_prefects_process_worker() -> None:
    ours = read_template("process", "flowforge-operations", COLD)
    theirs = ProcessWorker.get_default_base_job_template()

    assert ours["job_configuration"] == theirs["job_configuration"]
    variables = ours["variables"]
    assert isinstance(variables, dict)
    properties = variables["properties"]
    assert isinstance(properties, dict)
    assert set(properties) == set(theirs["variables"]["properties"])


def test_runs_start_by_prefects_own_command_when_warm_starts_are_off() -> None:
    for pool in list_pools("process", COLD):
        variables = pool.base_job_template["variables"]
        assert isinstance(variables, dict)
        assert variables["properties"]["command"]["default"] is None  # type: ignore[index,call-overload]


def test_an_unknown_type_is_refused_with_the_known_ones() -> None:
    with pytest.raises(Refused) as caught:
        list_pools("lambda", COLD)
    assert "process" in caught.value.hint
