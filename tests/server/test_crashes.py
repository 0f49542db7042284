"""A run that crashes carries a hint, whoever reports it and however."""

from __future__ import annotations

import json
import os

import pytest

from flowforge.errors import Unavailable
from flowforge.local import server_api
from flowforge.rules import crashes
from flowforge.server.crashes import rewrite
from tests.server.running import Running

KILLED = "Process exited with status code: -9. Process was killed."


def start_run(server: Running, pool: str | None = None, state: str = "RUNNING") -> str:
    """A run in a state, of a work pool if one is named; nobody carries it out."""
    name = f"crashing-{os.urandom(4).hex()}"
    flow = server.post("/flows/", {"name": name}).json()
    started = {"type": state, "name": state.title()}
    path, asked = "/flow_runs/", {"flow_id": flow["id"], "state": started}
    if pool:
        server.post("/work_pools/", {"name": pool, "type": "process"})
        deployed = {"name": name, "flow_id": flow["id"], "work_pool_name": pool}
        deployment = server.post("/deployments/", deployed).json()
        path, asked = f"/deployments/{deployment['id']}/create_flow_run", {"state": started}
    return str(server.post(path, asked).json()["id"])


def state_of(server: Running, run: str) -> dict[str, str]:
    state: dict[str, str] = server.get(f"{server.api}/api/flow_runs/{run}").json()["state"]
    return state


def test_a_crash_that_is_reported_gets_a_hint(server: Running) -> None:
    run = start_run(server)
    crashed = {"type": "CRASHED", "name": "Crashed", "message": KILLED}
    server.post(f"/flow_runs/{run}/set_state", {"state": crashed}).raise_for_status()
    state = state_of(server, run)
    assert (state["type"], state["name"]) == ("CRASHED", "Crashed")
    assert KILLED in state["message"]
    assert f"prefect flow-run retry {run}" in state["message"].partition(" Hint: ")[2]


def test_crashes_that_are_reported_together_get_a_hint(server: Running) -> None:
    run = start_run(server)
    report = {"flow_runs": {"id": {"any_": [run]}}, "state": {"type": "CRASHED"}}
    server.post("/flow_runs/bulk_set_state", report).raise_for_status()
    assert " Hint: " in state_of(server, run)["message"]


def test_any_other_state_keeps_its_message(server: Running) -> None:
    run = start_run(server)
    failed = {"type": "FAILED", "name": "Failed", "message": KILLED}
    server.post(f"/flow_runs/{run}/set_state", {"state": failed}).raise_for_status()
    assert state_of(server, run)["message"] == KILLED


def test_a_report_that_cannot_be_read_is_refused_by_prefect_itself(server: Running) -> None:
    run = start_run(server)
    url = f"{server.api}/api/flow_runs/{run}/set_state"
    answer = server.client.post(url, content=b'{"state": {"type": "CRASHED"')
    assert answer.status_code == 422


@pytest.mark.parametrize("left", ["PENDING", "RUNNING", "CANCELLING"])
def test_what_a_dead_worker_left_is_crashed_before_the_next_one_works(
    server: Running, left: str
) -> None:
    mine, others = f"mine-{left.lower()}", f"others-{left.lower()}"
    lost, waiting = start_run(server, mine, left), start_run(server, mine, "SCHEDULED")
    of_another_pool = start_run(server, others, left)
    assert server_api.settle_lost_runs(f"{server.api}/api", mine) == 1
    assert state_of(server, lost)["type"] == "CRASHED"
    assert crashes.LOST in state_of(server, lost)["message"]
    assert " Hint: " in state_of(server, lost)["message"]
    assert state_of(server, waiting)["type"] == "SCHEDULED"
    assert state_of(server, of_another_pool)["type"] == left


def test_a_server_that_cannot_say_what_was_lost_is_asked_again(server: Running) -> None:
    with pytest.raises(Unavailable, match="answered 404"):
        server_api.settle_lost_runs(f"{server.api}/nowhere", "a-pool")


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b'{"state": "CRASHED"}', b'{"state": {"type": "CRASHED", "message": 7}}'],
)
def test_what_is_no_report_is_passed_on_unchanged(body: bytes) -> None:
    assert rewrite(body, None) == body


def test_what_else_a_report_says_stays() -> None:
    asked = {"state": {"type": "CRASHED", "data": {"a": [1, "é"]}}, "force": True}
    told = json.loads(rewrite(json.dumps(asked).encode(), "a-run"))
    assert told["force"] is True
    assert told["state"]["data"] == {"a": [1, "é"]}
