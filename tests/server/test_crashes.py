"""A run that crashes carries a hint, whoever reports it and however."""

from __future__ import annotations

import json
import os

import pytest

from flowforge.server.crashes import rewrite
from tests.server.running import Running

KILLED = "Process exited with status code: -9. Process was killed."


def start_run(server: Running) -> str:
    flow = server.post("/flows/", {"name": f"crashing-{os.urandom(4).hex()}"}).json()
    state = {"type": "RUNNING", "name": "Running"}
    return str(server.post("/flow_runs/", {"flow_id": flow["id"], "state": state}).json()["id"])


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
