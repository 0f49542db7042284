"""The client against a real Prefect server, through a proxy that has good and bad days."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from flowforge import client
from flowforge.client import AsyncFlowForge, FlowForge, RunFacts, Step
from flowforge.errors import Damaged, Refused, Unavailable
from tests.client.relay import Fault, Relay
from tests.client.values import a_copy, a_proof, an_operation
from tests.ports import free_port


def test_a_run_is_started_and_told_of(relay: Relay, url: str) -> None:
    with FlowForge(url) as flowforge:
        run = flowforge.run("probe/now", server="shop")
        assert run.state == "Scheduled"
        assert run.url.endswith(f"/v2/runs/flow-run/{run.id}")
        assert flowforge.find_run(run.id).name == run.name
    assert [found["parameters"] for found in relay.runs() if found["id"] == run.id] == [
        {"server": "shop"}
    ]


def test_each_call_starts_a_run_unless_it_names_a_key(url: str) -> None:
    with FlowForge(url) as flowforge:
        one, two = (flowforge.run("probe/now", server="shop").id for _ in range(2))
        key = f"key-{time.monotonic_ns()}"
        three, four = (
            flowforge.run("probe/now", idempotency_key=key, server="shop").id for _ in range(2)
        )
    assert one != two
    assert three == four


@pytest.mark.parametrize(
    "faults", [[503, 429], [None, 502], ["drop"], [None, "lose"], [None, "lose", "lose", 503]]
)
def test_a_request_is_repeated_on_bad_days_and_starts_one_run(
    relay: Relay, url: str, faults: list[Fault]
) -> None:
    with FlowForge(url) as flowforge:
        before = len(relay.runs())
        relay.faults = faults
        run = flowforge.run("probe/now", server="shop")
        assert relay.faults == []
        assert flowforge.find_run(run.id).state == "Scheduled"
    assert len(relay.runs()) == before + 1


def test_patience_ends(relay: Relay, url: str) -> None:
    relay.faults = [503] * 50
    with FlowForge(url, patience_seconds=0.5) as flowforge, pytest.raises(Unavailable) as error:
        flowforge.run("probe/now", server="shop")
    assert "503" in error.value.message


def test_a_server_that_is_not_there_is_unavailable_and_says_how_to_start_it() -> None:
    url = f"http://127.0.0.1:{free_port()}/api"
    with FlowForge(url, patience_seconds=0.3) as flowforge, pytest.raises(Unavailable) as error:
        flowforge.status()
    assert "flowforge up" in error.value.hint


@pytest.mark.parametrize(
    ("deployment", "parameters", "said"),
    [
        ("probe/then", {"server": "shop"}, "probe/now"),
        ("probe", {"server": "shop"}, "probe/now"),
        ("../../admin/version", {}, "probe/now"),
        ("probe/now", {"server": "shop", "sever": "x"}, "It takes: server (required), database"),
        ("probe/now", {"server": 5}, "server (required)"),
        ("probe/now", {}, "'server' is a required property"),
        ("probe/now", {"server": "postgresql://u:hush@h/d"}, "flowforge database add"),
        ("probe/now", {"server": "s", "note": {"deep": ["host=h password=hush"]}}, "add NAME"),
        ("probe/now", {"server": SecretStr("hush")}, "flowforge database add"),
    ],
)
def test_bad_input_is_refused_before_a_run_exists(
    relay: Relay, url: str, deployment: str, parameters: dict[str, Any], said: str
) -> None:
    before = len(relay.runs())
    with FlowForge(url) as flowforge, pytest.raises(Refused) as refused:
        flowforge.run(deployment, **parameters)
    assert said in str(refused.value)
    assert "hush" not in str(refused.value)
    assert len(relay.runs()) == before


def test_a_password_does_not_leave_this_process(relay: Relay, url: str) -> None:
    with FlowForge(url) as flowforge, pytest.raises(Refused):
        flowforge.run("probe/now", server="postgresql://u:hush@h/d")
    assert relay.seen == []


def test_a_run_that_ends_gives_its_evidence(relay: Relay, url: str) -> None:
    looks: list[str] = []

    def look(facts: RunFacts, steps: list[Step]) -> None:
        looks.append(facts.state)
        if facts.state == "Scheduled":
            relay.end(facts.id, "COMPLETED", "Skipped", "nothing to do")

    with FlowForge(url) as flowforge:
        run = flowforge.run("probe/now", server="shop")
        operation = an_operation(run.id, "skipped")
        relay.answer(f"operations/{run.id}", operation=operation.model_dump(mode="json"))
        run.wait(timeout=20, on_look=look)
        assert (run.state, run.state_message) == ("Skipped", "nothing to do")
        assert looks == ["Scheduled", "Skipped"]
        assert run.result() == operation


def test_a_run_that_failed_raises_what_it_failed_with(relay: Relay, url: str) -> None:
    with FlowForge(url) as flowforge:
        run = flowforge.run("probe/now", server="shop")
        message = "Flow run encountered an exception: Damaged: A row is gone. Hint: Look at it."
        relay.end(run.id, "FAILED", message=message)
        with pytest.raises(Damaged, match="A row is gone") as error:
            run.result(timeout=20)
    assert error.value.hint == "Look at it."


def test_a_run_without_a_record_is_not_called_done(relay: Relay, url: str) -> None:
    with FlowForge(url, patience_seconds=1) as flowforge:
        run = flowforge.run("probe/now", server="shop")
        relay.end(run.id, "COMPLETED")
        with pytest.raises(Refused, match="not by FlowForge"):
            run.result(timeout=20)


def test_waiting_ends_when_it_is_told_to(url: str) -> None:
    with FlowForge(url) as flowforge, pytest.raises(Unavailable, match="still Scheduled"):
        flowforge.run("probe/now", server="shop").wait(timeout=0.2)


def test_the_same_is_true_for_those_who_await(relay: Relay, url: str) -> None:
    async def story() -> tuple[str, str]:
        async with AsyncFlowForge(url) as flowforge:
            relay.faults = ["drop", 503]
            run = await flowforge.run("probe/now", server="shop")
            operation = an_operation(run.id).model_dump(mode="json")
            relay.answer(f"operations/{run.id}", operation=operation)
            relay.end(run.id, "COMPLETED")
            with pytest.raises(Refused):
                await flowforge.run("probe/now", server="postgresql://u:p@h/d")
            return (await run.result(timeout=20)).flow_run_id, run.id

    recorded, started = asyncio.run(story())
    assert recorded == started


def test_a_plan_is_the_facts_of_a_planning_run(relay: Relay, url: str) -> None:
    relay.deploy("restore-postgres", "on-demand", "server", optional=("action", "copy"))
    facts = {"plan": {"copy_name": "backup-20261124-060000"}, "plan_hash": "abc"}

    started = []

    def work(flow_run_id: str) -> None:
        started.append(flow_run_id)
        operation = an_operation(flow_run_id, facts=facts).model_dump(mode="json")
        relay.answer(f"operations/{flow_run_id}", operation=operation)
        relay.end(flow_run_id, "COMPLETED")

    relay.after_creation = work
    with FlowForge(url) as flowforge:
        assert flowforge.restore_plan("shop") == facts
    planned = [run["parameters"] for run in relay.runs() if run["id"] in started]
    assert planned == [{"server": "shop", "copy": "latest", "action": "plan"}]


def test_copies_are_read_even_from_a_newer_server(relay: Relay, url: str) -> None:
    copy, proof = a_copy(database="odd/name\n"), a_proof()
    body = copy.model_dump(mode="json") | {"colour": "blue"}
    relay.answer("copies", copies=[body])
    relay.answer(
        "copies/shop/odd%2Fname%0A/backup-20261124-060000",
        copy=body,
        proofs=[proof.model_dump(mode="json")],
    )
    with FlowForge(url) as flowforge:
        assert flowforge.copies("shop", "odd/name\n") == [copy]
        assert flowforge.copy("shop", "odd/name\n", copy.name) == (copy, [proof])
    assert relay.seen[0] == "/ff/v1/copies?server=shop&database=odd%2Fname%0A"


def test_status_and_operations_are_read(relay: Relay, url: str) -> None:
    database: dict[str, object] = {"server": "shop", "database": "app"}
    database |= {"newest_copy": "backup-20261124-060000"}
    database |= {"age_seconds": 60.0, "level": 3, "said by": "a newer server"}
    relay.answer("status", status="ok", version="0.1.0", prefect="3.8.8", databases=[database])
    relay.answer("operations", operations=[an_operation("r").model_dump(mode="json")])
    with FlowForge(url) as flowforge:
        status = flowforge.status()
        assert (status.status, status.databases[0].level) == ("ok", 3)
        assert flowforge.operations("backup", limit=5) == [an_operation("r")]


def test_what_our_server_refuses_is_refused_in_its_words(relay: Relay, url: str) -> None:
    relay.refuse("copies/shop/app/gone", Refused("No such copy.", hint="List them."))
    with FlowForge(url) as flowforge, pytest.raises(Refused) as refused:
        flowforge.copy("shop", "app", "gone")
    assert (refused.value.message, refused.value.hint) == ("No such copy.", "List them.")


def test_a_server_that_is_not_flowforge_is_named(url: str) -> None:
    with FlowForge(url) as flowforge, pytest.raises(Refused, match="not by FlowForge"):
        flowforge.copies()


def test_a_profile_brings_its_credentials(relay: Relay, url: str, tmp_path: Path) -> None:
    (tmp_path / "prefect").mkdir()
    profile = f'[profiles.here]\nPREFECT_API_URL = "{url}"\nPREFECT_API_AUTH_STRING = "ops:hush"\n'
    (tmp_path / "prefect/profiles.toml").write_text(profile)
    relay.answer("copies", copies=[])
    with FlowForge(profile="here") as flowforge:
        flowforge.copies()
    assert relay.authorizations == [httpx.BasicAuth("ops", "hush")._auth_header]


def test_the_functions_of_the_module_mean_the_default_environment(
    relay: Relay, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLOWFORGE_API_URL", url)
    relay.answer("copies", copies=[])
    assert client.copies() == []
    assert client.run("probe/now", server="shop").state == "Scheduled"
