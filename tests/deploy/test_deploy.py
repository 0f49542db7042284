from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from flowforge.deploy import Report, deploy
from flowforge.errors import Refused, Unavailable
from tests.ports import free_port
from tests.prefect_server import run_module

FLOW = '''
"""A flow for the tests of deploying."""

from __future__ import annotations

from prefect import flow


@flow
def greet(server: str, times: int = 1, names: list[str] | None = None) -> None:
    """Greet a server.

    Args:
        server: whom to greet
    """
'''


class Project:
    """A folder with a flow and a prefect.yaml, and the server it is deployed to."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.url = url
        self.entries: list[dict[str, Any]] = [entry("nightly", "at-three", "at-four")]
        (folder / "flows").mkdir()
        (folder / "flows" / "greeting.py").write_text(FLOW)

    def deploy(self, *, check: bool = False) -> Report:
        text = yaml.safe_dump({"deployments": self.entries})
        (self.folder / "prefect.yaml").write_text(text)
        return deploy(self.folder, check=check)

    def found(self, name: str = "nightly") -> dict[str, Any]:
        answer = httpx.get(f"{self.url}/deployments/name/greet/{name}")
        found: dict[str, Any] = answer.raise_for_status().json()
        return found

    def schedule(self, slug: str) -> dict[str, Any]:
        (one,) = [one for one in self.found()["schedules"] if one["slug"] == slug]
        found: dict[str, Any] = one
        return found

    def post(self, path: str, body: dict[str, Any]) -> Any:
        return httpx.post(f"{self.url}{path}", json=body).raise_for_status().json()


def entry(name: str, *slugs: str, **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "entrypoint": "flows/greeting.py:greet",
        "work_pool": {"name": "flowforge-operations"},
        "parameters": {"server": "shop"},
        "concurrency_limit": {"limit": 1, "grace_period_seconds": 600},
        "schedules": [
            {"slug": slug, "cron": "0 3 * * *", "timezone": "UTC", "parameters": {"times": 2}}
            for slug in slugs
        ],
    } | more


@pytest.fixture(scope="module")
def pools(prefect_url: str) -> None:
    answer = run_module("work_pools", url=prefect_url)
    assert answer.returncode == 0, answer.stderr


@pytest.fixture
def project(
    tmp_path: Path, prefect_url: str, pools: None, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Project]:
    monkeypatch.setenv("PREFECT_API_URL", prefect_url)
    folder = tmp_path / "a folder"
    folder.mkdir()
    yield Project(folder, prefect_url)
    for found in httpx.post(f"{prefect_url}/deployments/filter", json={}).json():
        httpx.delete(f"{prefect_url}/deployments/{found['id']}")


def actions(report: Report) -> list[tuple[str, str]]:
    return [(change.action, change.full_name) for change in report.deployments]


def test_a_new_deployment_is_as_the_file_says(project: Project) -> None:
    report = project.deploy()

    found = project.found()
    assert actions(report) == [("create", "greet/nightly")]
    assert found["tags"] == ["flowforge"]
    assert found["work_pool_name"] == "flowforge-operations"
    assert found["description"].startswith("Greet a server.")
    assert found["global_concurrency_limit"]["limit"] == 1
    assert found["concurrency_options"]["grace_period_seconds"] == 600
    assert found["pull_steps"] == [
        {
            "prefect.deployments.steps.set_working_directory": {
                "directory": str(project.folder.resolve())
            }
        }
    ]
    assert "server" in found["parameter_openapi_schema"]["properties"]


def test_a_second_deploy_writes_nothing(project: Project) -> None:
    project.deploy()
    before = project.found()

    report = project.deploy()

    assert not report.differs
    assert project.found() == before


def test_a_check_touches_nothing_and_names_the_difference(project: Project) -> None:
    project.deploy()
    before = project.found()
    project.entries[0]["parameters"] = {"server": "other"}
    project.entries[0]["schedules"][0]["cron"] = "0 5 * * *"

    report = project.deploy(check=True)

    (change,) = report.deployments
    assert change.fields == ("parameters",)
    assert [(one.action, one.slug) for one in change.schedules] == [("update", "at-three")]
    assert project.found() == before


def test_a_changed_schedule_keeps_its_id_and_an_operators_pauses(project: Project) -> None:
    project.deploy()
    found, schedule = project.found(), project.schedule("at-three")
    place = f"{project.url}/deployments/{found['id']}"
    httpx.patch(f"{place}/schedules/{schedule['id']}", json={"active": False}).raise_for_status()
    httpx.post(f"{place}/pause_deployment").raise_for_status()
    project.entries[0]["schedules"][0]["cron"] = "0 5 * * *"
    project.entries[0]["tags"] = ["more"]

    assert project.deploy().differs
    assert not project.deploy().differs

    after = project.schedule("at-three")
    assert (after["id"], after["active"]) == (schedule["id"], False)
    assert after["schedule"]["cron"] == "0 5 * * *"
    assert after["parameters"] == {"times": 2}
    assert project.found()["paused"] is True
    assert project.found()["id"] == found["id"]


def test_a_schedule_that_left_the_file_is_removed_and_one_made_by_hand_stays(
    project: Project,
) -> None:
    project.deploy()
    by_hand = [{"schedule": {"cron": "1 1 * * *", "timezone": "UTC"}, "active": False}]
    project.post(f"/deployments/{project.found()['id']}/schedules", by_hand)  # type: ignore[arg-type]
    project.entries[0]["schedules"].pop()

    report = project.deploy()

    assert [(one.action, one.slug) for one in report.deployments[0].schedules] == [
        ("delete", "at-four")
    ]
    assert {one["slug"] for one in project.found()["schedules"]} == {"at-three", None}
    assert any("without a slug" in note for note in report.notes)
    assert not project.deploy(check=True).differs


def test_a_deployment_that_left_the_file_is_removed_and_what_it_planned_is_cancelled(
    project: Project,
) -> None:
    project.entries.append(entry("weekly"))
    project.deploy()
    gone = project.found("weekly")
    planned = project.post(
        f"/deployments/{gone['id']}/create_flow_run",
        {
            "parameters": {"server": "shop"},
            "state": {
                "type": "SCHEDULED",
                "state_details": {"scheduled_time": "2100-01-01T00:00:00Z"},
            },
        },
    )
    project.entries.pop()

    report = project.deploy()

    assert actions(report) == [("delete", "greet/weekly")]
    assert httpx.get(f"{project.url}/deployments/{gone['id']}").status_code == 404
    run = httpx.get(f"{project.url}/flow_runs/{planned['id']}").json()
    assert run["state_type"] == "CANCELLED"
    assert "prefect.yaml" in run["state"]["message"]


def test_a_deployment_of_somebody_else_is_left_alone(project: Project) -> None:
    flow = project.post("/flows/", {"name": "theirs"})
    theirs = project.post("/deployments/", {"name": "d", "flow_id": flow["id"], "tags": ["x"]})

    project.deploy()

    assert httpx.get(f"{project.url}/deployments/{theirs['id']}").status_code == 200


def test_the_scheduler_plans_the_runs_of_a_deployed_schedule(project: Project) -> None:
    project.deploy()
    asked = {
        "deployments": {"id": {"any_": [project.found()["id"]]}},
        "flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}},
    }

    deadline = time.monotonic() + 30
    while not (count := project.post("/flow_runs/count", asked)) and time.monotonic() < deadline:
        time.sleep(0.2)

    assert count > 0


def test_every_problem_is_named_and_nothing_is_touched(project: Project) -> None:
    project.deploy()
    before = project.found()
    broken = [
        entry("cron", "s", parameters={"server": "a"}),
        entry("pool", work_pool={"name": "nowhere"}),
        entry("variables", work_pool={"name": "flowforge-operations", "job_variables": {"cmd": 1}}),
        entry("file", entrypoint="flows/none.py:greet"),
        entry("function", entrypoint="flows/greeting.py:nobody"),
        entry("not-a-flow", entrypoint="flows/plain.py:plain"),
        entry("import", entrypoint="flows/broken.py:greet"),
        entry("outside", entrypoint="../greeting.py:greet"),
        entry("unknown", parameters={"sever": "a"}),
        entry("value", parameters={"server": "a", "times": "often"}),
        entry("incomplete", "s", parameters={}),
        entry("zone", "s"),
    ]
    broken[0]["schedules"][0]["cron"] = "every night"
    broken[-1]["schedules"][0]["timezone"] = "Mars/Olympus"
    (project.folder / "flows" / "plain.py").write_text("def plain() -> None: ...\n")
    (project.folder / "flows" / "broken.py").write_text("import no_such_module_at_all\n")
    project.entries = [entry("changed", "s"), *broken]

    with pytest.raises(Refused) as caught:
        project.deploy()

    problems = caught.value.facts["problems"]
    assert isinstance(problems, list)
    assert [(one["entry"], one["field"]) for one in problems] == [
        ("cron", "schedules.s.cron"),
        ("file", "entrypoint"),
        ("function", "entrypoint"),
        ("not-a-flow", "entrypoint"),
        ("import", "entrypoint"),
        ("outside", "entrypoint"),
        ("unknown", "parameters"),
        ("value", "parameters"),
        ("incomplete", "schedules.s.parameters"),
        ("zone", "schedules.s.timezone"),
        ("pool", "work_pool.name"),
        ("variables", "work_pool.job_variables"),
    ], str(caught.value)
    assert "no_such_module_at_all" in caught.value.message
    assert str(project.folder / "prefect.yaml") in caught.value.message
    assert project.found() == before


@pytest.mark.parametrize("text", ["deployments: [", "a: 1\na: 2\n", "deployments: {{ x }}\n"])
def test_a_file_that_is_not_yaml_is_refused(project: Project, text: str) -> None:
    (project.folder / "prefect.yaml").write_text(text)

    with pytest.raises(Refused):
        deploy(project.folder)


def test_a_folder_without_the_file_is_refused_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(Refused) as caught:
        deploy(tmp_path)
    assert "FLOWFORGE_HOME" in caught.value.hint


def test_a_server_that_does_not_answer_is_unavailable_but_a_bad_file_is_still_refused(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{free_port()}/api")
    with pytest.raises(Unavailable) as caught:
        project.deploy()
    assert "flowforge up" in caught.value.hint

    project.entries[0]["oops"] = 1
    with pytest.raises(Refused):
        project.deploy()


def test_the_command_speaks_json_and_its_exit_code_tells_a_difference(project: Project) -> None:
    project.deploy()
    home = {"FLOWFORGE_HOME": str(project.folder)}
    project.entries[0]["tags"] = ["new"]
    (project.folder / "prefect.yaml").write_text(yaml.safe_dump({"deployments": project.entries}))

    checked = run_module("flowforge.deploy", "--check", "--json", url=project.url, environment=home)
    deployed = run_module("flowforge.deploy", url=project.url, environment=home)

    assert checked.returncode == 2, checked.stderr
    answer = json.loads(checked.stdout)
    assert answer["schema"] == 1
    assert answer["difference"][0]["fields"]["tags"]["after"] == ["new", "flowforge"]
    assert deployed.returncode == 0
    assert "update" in deployed.stdout
    assert not project.deploy(check=True).differs
