from __future__ import annotations

from datetime import UTC, datetime, timedelta
from urllib.parse import quote
from uuid import uuid4

import pytest
import sqlalchemy as sa
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from flowforge.ledger import protection, queries
from flowforge.rules import names
from flowforge.rules.backups import Copy, Level, Operation, Proof
from flowforge.rules.drills import drill_of
from flowforge.rules.standing import SWITCH_SECONDS
from tests.server.running import Running, wait_for

ODD = 'o\'dd/näme "$(id)"\n%2F'


def a_copy(server: str, database: str = "shop", hours_ago: float = 0.1) -> Copy:
    at = datetime.now(UTC) - timedelta(hours=hours_ago)
    return Copy(
        server=server,
        database=database,
        name=names.copy_name(at),
        store="backups",
        snapshot_at=at,
        finished_at=at,
        size_bytes=12,
        raw_bytes=34,
        tables=14,
        rows=84_210,
        system_identifier="7300000000000000000",
        level=Level.COMPARED,
        proven_at=at,
    )


def test_the_api_and_the_ui_answer_on_both_ports(server: Running) -> None:
    for root in (server.api, server.ui, f"http://localhost:{server.api_port}"):
        assert server.get(f"{root}/api/health").json() is True
        assert "<html" in server.get(f"{root}/v2/").text.lower()
        assert server.get(f"{root}/health").json() == {"status": "ok"}
        ready = server.get(f"{root}/ready")
        assert (ready.status_code, ready.json()["ready"]) == (200, True)


def test_a_browser_is_told_the_address_it_is_already_on(server: Running) -> None:
    for root in (server.api, server.ui, f"http://localhost:{server.ui_port}"):
        assert server.get(f"{root}/ui-settings").json()["api_url"] == f"{root}/api"


def test_the_metrics_port_answers_metrics_only(server: Running) -> None:
    root = f"http://127.0.0.1:{server.metrics_port}"
    answer = server.get(f"{root}/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    assert "flowforge_ready 1.0" in answer.text
    assert "flowforge_build_info{" in answer.text
    for path in ("/api/health", "/", "/ff/v1/status", "/ready"):
        assert server.get(root + path).status_code == 404
    assert server.get(f"{server.api}/api/metrics").status_code == 404


def test_requests_are_timed_by_their_route_never_by_an_id_or_a_name(server: Running) -> None:
    run = uuid4()
    server.get(f"{server.api}/api/flow_runs/{run}")
    server.get(f"{server.api}/api/work_pools/odd-name-of-a-pool")
    server.get(f"{server.api}/api/{run}")
    server.get(f"{server.api}/v2/odd-name-of-a-page")
    text = server.get(f"http://127.0.0.1:{server.metrics_port}/metrics").text
    assert 'route="/api/flow_runs/{id}",status="404"' in text
    assert 'route="/api/work_pools/{name}"' in text
    assert 'route="/api/unknown"' in text
    assert str(run) not in text
    assert "odd-name" not in text


def test_every_run_that_ends_is_counted_once_by_flow_and_state(server: Running) -> None:
    flow = server.post("/flows/", {"name": f"counted-{uuid4().hex[:6]}"}).json()
    series = f'flowforge_jobs_processed_total{{deployment="",flow="{flow["name"]}",state='
    for ending in ("COMPLETED", "COMPLETED", "FAILED", "CRASHED"):
        state: dict[str, object] = {"type": "PENDING"}
        run = server.post("/flow_runs/", {"flow_id": flow["id"], "state": state}).json()
        for kind in ("RUNNING", ending):
            body = {"state": {"type": kind}, "force": True}
            assert server.post(f"/flow_runs/{run['id']}/set_state", body).status_code == 201
    wait_for(lambda: server.metric(series) == 4.0, 20, "counting four runs")
    assert server.metric(series + '"completed"') == 2.0


def test_a_copy_is_found_whatever_its_database_is_called(server: Running, books: sa.Engine) -> None:
    copy = a_copy("odd", ODD)
    proof = Proof(
        copy_name=copy.name,
        level=Level.COMPARED,
        verdict="proven",
        checked_at=copy.finished_at,
        seconds=1.0,
    )
    queries.record_copy(books, copy)
    queries.record_proof(books, "odd", ODD, "backups", proof)
    path = "/".join(quote(part, safe="") for part in ("odd", ODD, copy.name))
    body = server.get(f"{server.api}/ff/v1/copies/{path}").json()
    assert body["schema"] == 1
    assert Copy.model_validate(body["copy"]) == copy
    assert [Proof.model_validate(p) for p in body["proofs"]] == [proof]
    listed = server.get(f"{server.ui}/ff/v1/copies", params={"server": "odd", "database": ODD})
    assert listed.json() == {"schema": 1, "copies": [body["copy"]]}
    found = server.get(f"{server.api}/ff/v1/status").json()["databases"]
    assert (ODD, 3, copy.name) in [(d["database"], d["level"], d["newest_copy"]) for d in found]


def test_operations_are_listed_and_read(server: Running, books: sa.Engine) -> None:
    operation = Operation(
        operation="backup",
        flow_run_id=str(uuid4()),
        flow_run_name="brave-otter",
        outcome="done",
        evidence="proven L3",
        seconds=6.1,
        finished_at=datetime.now(UTC),
        facts={"forgotten": []},
    )
    queries.record_operation(books, operation)
    one = server.get(f"{server.api}/ff/v1/operations/{operation.flow_run_id}").json()
    assert Operation.model_validate(one["operation"]) == operation
    many = server.get(f"{server.api}/ff/v1/operations?operation=backup&limit=1").json()
    assert many == {"schema": 1, "operations": [one["operation"]]}


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("operations/00000000-0000-4000-8000-000000000000", 404),
        ("operations/not-an-id", 422),
        ("operations?limit=0", 422),
        ("copies/shop/shop/backup-20200101-000000", 404),
        ("copies/shop", 404),
        ("nothing", 404),
    ],
)
def test_errors_have_a_kind_a_message_and_a_hint(server: Running, path: str, status: int) -> None:
    answer = server.get(f"{server.api}/ff/v1/{path}")
    error = answer.json()["error"]
    assert answer.status_code == status
    assert set(error) == {"kind", "message", "hint"}
    assert error["kind"] == "refused"
    assert all(error.values())


def test_our_own_api_only_reads(server: Running) -> None:
    assert server.client.post(f"{server.api}/ff/v1/copies", json={}).status_code == 405


def test_the_age_and_level_of_the_newest_copies_are_metrics(
    server: Running, books: sa.Engine
) -> None:
    queries.record_copy(books, a_copy("measured"))
    labels = '{database="shop",server="measured"}'
    wait_for(lambda: server.metric(f"flowforge_backup_level{labels}") == 3, 30, "the level")
    by_level = '{database="shop",level="3",server="measured"}'
    assert 300 < server.metric(f"flowforge_backup_age_seconds{by_level}") < 600
    assert 300 < server.metric(f"flowforge_backup_proof_age_seconds{labels}") < 600
    assert server.metric(f"flowforge_backup_bytes{labels}") == 12


def test_drills_and_skipped_backups_are_metrics(server: Running, books: sa.Engine) -> None:
    copy = a_copy("drilled")
    proof = Proof(
        copy_name=copy.name,
        level=Level.COMPARED,
        verdict="proven",
        checked_at=datetime.now(UTC),
        seconds=80,
        restore_seconds=60,
        phase_seconds={"compare": 10},
    )
    queries.record_copy(books, copy)
    protection.record_drills(books, [drill_of(copy, proof)])
    queries.record_operation(books, a_skip("drilled"))
    labels = '{database="shop",server="drilled"}'
    seconds = 60 + 10 + SWITCH_SECONDS
    wait_for(lambda: server.metric(f"flowforge_restore_seconds{labels}") == seconds, 30, "a drill")
    assert server.metric(f"flowforge_backup_skipped_total{labels}") == 1
    behind = '{database="shop",server="drilled",store="backups"}'
    assert server.metric(f"flowforge_backup_store_behind_seconds{behind}") == 0


@pytest.mark.slow
def test_what_no_failed_run_tells_is_an_event(server: Running, books: sa.Engine) -> None:
    """Copies are made and runs are green, but none was proven; one fell; backups are skipped."""
    queries.record_copy(books, a_copy("fine"))
    forgotten = {"level": Level.READ_BACK, "proven_at": None}
    queries.record_copy(books, a_copy("unproven", hours_ago=31 * 24).model_copy(update=forgotten))
    queries.record_copy(books, a_copy("unproven").model_copy(update=forgotten))
    fallen = a_copy("emptied").model_copy(update={"fall": "rows fell from 84,210 to 3"})
    queries.record_copy(books, fallen)
    for _ in range(2):
        queries.record_operation(books, a_skip("busy"))

    unverified = events_of(server, "unproven", "unverified")
    assert unverified["proven_copy"] is None
    assert "flowforge backup verify latest --server unproven" in str(unverified["hint"])
    shrunk = events_of(server, "emptied", "shrunk")
    assert shrunk["fall"] == "rows fell from 84,210 to 3"
    assert events_of(server, "busy", "skipped")["in_a_row"] == 2
    for name in ("unverified", "shrunk", "skipped"):
        assert read_events(server, "fine", name) == []


def a_skip(server: str) -> Operation:
    return Operation(
        operation="backup",
        flow_run_id=str(uuid4()),
        flow_run_name="brave-otter",
        outcome="skipped",
        evidence="another one is running",
        seconds=1,
        finished_at=datetime.now(UTC),
        server=server,
        database="shop",
    )


def events_of(server: Running, name: str, kind: str) -> dict[str, object]:
    """What the first event of a kind about a server's database says, once there is one."""
    wait_for(lambda: bool(read_events(server, name, kind)), 60, f"{kind} of {name}")
    return read_events(server, name, kind)[0]


def read_events(server: Running, name: str, kind: str) -> list[dict[str, object]]:
    wanted = {
        "resource": {"id": [f"flowforge.database.{name}.shop"]},
        "event": {"name": [f"flowforge.backup.{kind}"]},
    }
    answer = server.post("/events/filter", {"filter": wanted}).json()
    return [event["payload"] for event in answer["events"]]


@pytest.mark.slow
def test_a_stale_copy_is_an_event_once(server: Running, books: sa.Engine) -> None:
    def events(name: str) -> list[dict[str, object]]:
        return read_events(server, name, "stale")

    old = a_copy("stale-one", hours_ago=2)
    queries.record_copy(books, old)
    wait_for(lambda: len(events("stale-one")) > 0, 60, "the first event")
    payload = events("stale-one")[0]
    assert payload["newest_copy"] == old.name
    assert 7100 < float(str(payload["age_seconds"])) < 7400
    assert "flowforge backup run stale-one" in str(payload["hint"])
    queries.record_copy(books, a_copy("stale-two", hours_ago=2))
    queries.record_copy(books, a_copy("fresh-one"))
    wait_for(lambda: len(events("stale-two")) > 0, 60, "an event of a later look")
    assert len(events("stale-one")) == 1
    assert events("fresh-one") == []


def test_a_foreign_host_is_refused_on_every_port(server: Running) -> None:
    for port in (server.api_port, server.ui_port, server.metrics_port):
        for path in ("/api/flows/count", "/v2/", "/metrics", "/ready", "/ff/v1/status"):
            url = f"http://127.0.0.1:{port}{path}"
            answer = server.get(url, headers={"host": f"rebound.example:{port}"})
            assert answer.status_code == 421
            assert "FLOWFORGE_ALLOWED_HOSTS" in answer.json()["error"]["hint"]


def test_a_foreign_origin_is_refused_and_gets_no_permission(server: Running) -> None:
    headers = {"origin": "http://evil.example", "access-control-request-method": "POST"}
    for method in ("GET", "POST", "OPTIONS"):
        answer = server.client.request(method, f"{server.api}/api/flows/filter", headers=headers)
        assert answer.status_code == 403
        assert not any(name.startswith("access-control") for name in answer.headers)
    own = server.get(f"{server.api}/api/health", headers={"origin": server.ui})
    assert own.status_code == 200
    assert own.headers.get("access-control-allow-origin") != "*"
    assert own.headers["content-security-policy"] == "frame-ancestors 'self'"


@pytest.mark.parametrize("path", ["/api/events/in", "/api/events/out", "/api/logs/out"])
def test_a_websocket_of_a_foreign_page_is_refused(server: Running, path: str) -> None:
    url = f"ws://127.0.0.1:{server.api_port}{path}"
    with pytest.raises(InvalidStatus) as refused, connect(url, origin="http://evil.example"):  # type: ignore[arg-type]
        pass
    assert refused.value.response.status_code == 403


def test_a_websocket_of_a_program_and_of_our_own_page_is_open(server: Running) -> None:
    for origin in (None, server.ui):
        with connect(f"ws://127.0.0.1:{server.api_port}/api/events/in", origin=origin) as opened:  # type: ignore[arg-type]
            assert opened.response is not None
            assert opened.response.status_code == 101


def test_prefects_block_types_are_entered_beside_the_first_requests(server: Running) -> None:
    def entered() -> bool:
        found = server.post("/block_types/filter").json()
        return {"secret", "slack-webhook"} <= {kind["slug"] for kind in found}

    wait_for(entered, 60, "entering the block types")
    assert entered()
