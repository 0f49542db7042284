from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from prefect import flow, tags
from prefect.events import Event, Resource

from blocks import documents
from flowforge import prefect_api
from flowforge.automations import PREFIX, sync_automations
from flowforge.rules import alerts
from tests.receivers import WebReceiver, receive_posts

ARRIVAL_SECONDS = 30


@pytest.fixture(autouse=True)
def server(prefect_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("PREFECT_API_URL", prefect_url)
    yield prefect_url
    with prefect_api.connect() as client:
        for name in documents.read_blocks(client, "pager"):
            documents.remove(client, "pager", name)


@pytest.fixture
def web() -> Iterator[WebReceiver]:
    with receive_posts() as receiver:
        yield receiver


def add_pagers(**urls: str) -> None:
    request = {"pagers": {name: {"kind": "webhook", "url": url} for name, url in urls.items()}}
    with prefect_api.connect() as client:
        documents.apply(client, documents.read_request(request))


def ours(url: str) -> dict[str, dict[str, Any]]:
    found = httpx.post(f"{url}/automations/filter", json={}).raise_for_status().json()
    return {one["name"]: one for one in found if one["name"].startswith(PREFIX)}


def sync(*, check: bool = False) -> list[tuple[str, str]]:
    with prefect_api.connect() as client:
        return [(one.action, one.name) for one in sync_automations(client, check=check)]


def test_without_a_pager_there_is_no_automation(server: str) -> None:
    assert sync() == []
    assert ours(server) == {}


@pytest.mark.slow
def test_the_first_pager_makes_them_and_the_last_one_takes_them_along(
    server: str, web: WebReceiver
) -> None:
    add_pagers(ops=web.url)
    assert {name.removeprefix(PREFIX) for name in ours(server)} == {
        "operation failed",
        "copy too old",
        "copies unproven",
        "copy shrunk",
        "backups skipped",
    }

    add_pagers(boss=web.url)
    assert {len(one["actions"]) for one in ours(server).values()} == {2}

    with prefect_api.connect() as client:
        documents.remove(client, "pager", "ops")
    assert {len(one["actions"]) for one in ours(server).values()} == {1}

    with prefect_api.connect() as client:
        documents.remove(client, "pager", "boss")
    assert ours(server) == {}


def test_a_second_sync_writes_nothing(server: str, web: WebReceiver) -> None:
    add_pagers(ops=web.url)
    before = ours(server)

    assert sync(check=True) == []
    assert sync() == []
    assert ours(server) == before


@pytest.mark.slow
def test_one_that_is_switched_off_stays_off_when_it_is_updated(
    server: str, web: WebReceiver
) -> None:
    add_pagers(ops=web.url)
    name = f"{PREFIX}operation failed"
    one = ours(server)[name]
    httpx.patch(f"{server}/automations/{one['id']}", json={"enabled": False}).raise_for_status()

    add_pagers(boss=web.url)

    after = ours(server)[name]
    assert (after["id"], after["enabled"], len(after["actions"])) == (one["id"], False, 2)


def test_edited_doubled_and_leftover_ones_are_put_right_and_others_left_alone(
    server: str, web: WebReceiver
) -> None:
    add_pagers(ops=web.url)
    name = f"{PREFIX}copy too old"
    one = ours(server)[name]
    copied = {key: one[key] for key in ("trigger", "actions", "description")}
    for other in (name, f"{PREFIX}gone", "somebody else's"):
        httpx.post(f"{server}/automations/", json=copied | {"name": other}).raise_for_status()
    httpx.put(
        f"{server}/automations/{one['id']}",
        json=copied | {"name": name, "description": "edited"},
    ).raise_for_status()

    changes = sync()

    assert ("delete", f"{PREFIX}gone") in changes
    assert ("delete", name) in changes
    assert sync() == []
    found = httpx.post(f"{server}/automations/filter", json={}).json()
    assert [one["name"] for one in found].count(name) == 1
    (theirs,) = [one for one in found if one["name"] == "somebody else's"]
    httpx.delete(f"{server}/automations/{theirs['id']}").raise_for_status()


@flow
def lose_the_shop(server: str) -> None:
    raise RuntimeError(f"{server} is gone. Hint: look for it under the sofa.")


def test_a_failed_flow_reaches_the_pager_with_name_reason_and_link(
    server: str, web: WebReceiver
) -> None:
    add_pagers(ops=web.url)

    with prefect_api.connect(), tags("flowforge"):
        state = lose_the_shop("shop", return_state=True)

    message = web.received.get(timeout=ARRIVAL_SECONDS)
    run_id = state.state_details.flow_run_id
    name = httpx.get(f"{server}/flow_runs/{run_id}").json()["name"]
    assert message["subject"] == f"lose-the-shop: run {name} Failed"
    assert "look for it under the sofa" in message["body"]
    assert f"http://ui.example/runs/flow-run/{run_id}" in message["body"]
    assert "'server': 'shop'" in message["body"]


@pytest.mark.parametrize(
    ("kind", "facts", "subject"),
    [
        (
            alerts.STALE,
            {"newest_copy": "backup-20260101-000000", "age_seconds": 30_000},
            "No recent copy of shop/app: the newest is 8.3 h old",
        ),
        (
            alerts.UNVERIFIED,
            {"proven_copy": None, "age_seconds": 31 * 86400},
            "No copy of shop/app was proven for 31 days",
        ),
        (
            alerts.SHRUNK,
            {"newest_copy": "backup-20260101-000000", "fall": "rows fell from 9,000 to 3"},
            "The newest copy of shop/app holds far less than the one before",
        ),
        (alerts.SKIPPED, {"in_a_row": 2}, "Backups of shop/app are skipped: 2 in a row"),
    ],
)
def test_what_no_failed_run_tells_reaches_the_pager(
    server: str, web: WebReceiver, kind: str, facts: dict[str, Any], subject: str
) -> None:
    add_pagers(ops=web.url)
    event = Event(
        event=kind,
        resource=Resource({"prefect.resource.id": "flowforge.database.shop.app"}),
        payload={"server": "shop", "database": "app", "hint": "Do this about it.", **facts},
    )

    httpx.post(f"{server}/events", json=[event.model_dump(mode="json")]).raise_for_status()

    message = web.received.get(timeout=ARRIVAL_SECONDS)
    assert message["subject"] == subject
    assert "Do this about it." in message["body"]


def test_a_failed_run_of_somebody_else_is_not_told(server: str, web: WebReceiver) -> None:
    add_pagers(ops=web.url)

    with prefect_api.connect():
        lose_the_shop("theirs", return_state=True)
        with tags("flowforge"):
            lose_the_shop("ours", return_state=True)

    assert "ours" in web.received.get(timeout=ARRIVAL_SECONDS)["body"]
    assert web.received.empty()
