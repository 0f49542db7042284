from __future__ import annotations

import os
import signal
import socket
import time
from pathlib import Path

import psutil
import pytest
from websockets.sync.client import connect

from tests.ports import free_port
from tests.server import running
from tests.server.running import Switchable, wait_for


def test_a_taken_port_is_refused_by_name_before_anything_slow(tmp_path: Path) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        api, ui = free_port(), free_port()
        started = time.monotonic()
        server = running.start(tmp_path, None, ports=[api, port, ui])
        assert server.process.wait(timeout=60) == 3
    said = server.log.read_text()
    assert f"Port {port} " in said
    assert "FLOWFORGE_UI_PORT" in said
    assert "Traceback" not in said
    assert time.monotonic() - started < 30
    server.client.close()


@pytest.mark.slow
def test_a_database_that_is_away_at_the_start_is_said_without_its_password(tmp_path: Path) -> None:
    server = running.start(tmp_path, "postgresql://someone:s3cret@127.0.0.1:1/prefect")
    assert server.process.wait(timeout=120) == 1
    said = server.log.read_text()
    assert "DATABASE_URL" in said
    assert "s3cret" not in said
    assert "Traceback" not in said
    server.client.close()


@pytest.mark.slow
def test_an_outage_is_sat_out_and_a_frozen_database_does_not_stop_it_from_stopping(
    tmp_path: Path, switchable: Switchable
) -> None:
    url = running.url_of(switchable.cluster.address("switchable"))
    with running.running(tmp_path, url) as server:
        wait_for(lambda: len(server.post("/block_types/filter").json()) > 40, 60, "settling down")
        _it_goes_and_comes_back(server, switchable)
        switchable.signal(signal.SIGSTOP)
        try:
            wait_for(lambda: server.readiness()[0] == 503, 30, "seeing that no write ends")
            assert server.readiness()[1]["reason"]
            with connect(f"ws://127.0.0.1:{server.api_port}/api/events/in"):
                started = time.monotonic()
                assert server.stop() == 0
            assert time.monotonic() - started < 9
        finally:
            switchable.signal(signal.SIGCONT)
        said = server.log.read_text()
    assert "Traceback" not in said
    assert len(said.splitlines()) < 60, said


def _it_goes_and_comes_back(server: running.Running, postgres: Switchable) -> None:
    postgres.off()
    wait_for(lambda: server.readiness()[0] == 503, 30, "saying that it is not ready")
    code, facts = server.readiness()
    assert code == 503
    assert facts["reason"]
    assert "DATABASE_URL" in str(facts["hint"])
    assert server.get(f"{server.api}/health").status_code == 200
    assert server.metric("flowforge_ready") == 0
    waiting = server.post("/flows/filter")
    assert waiting.status_code == 503
    assert waiting.headers["prefect-maintenance"] == "true"
    ledger = server.get(f"{server.api}/ff/v1/copies")
    assert ledger.status_code == 503
    assert ledger.json()["error"]["kind"] == "unavailable"
    postgres.on()
    wait_for(lambda: server.readiness()[0] == 200, 30, "being ready again")
    assert server.post("/flows/filter").status_code == 200
    assert server.get(f"{server.api}/ff/v1/copies").status_code == 200


@pytest.mark.slow
def test_a_lease_that_a_run_holds_outlives_a_killed_server(
    tmp_path: Path, switchable: Switchable
) -> None:
    url = running.url_of(switchable.cluster.address("switchable"))
    with running.running(tmp_path, url) as server:
        server.post("/v2/concurrency_limits/", {"name": "one", "limit": 1}).raise_for_status()
        asked = {"names": ["one"], "slots": 1}
        held = server.post("/v2/concurrency_limits/increment-with-lease", asked).json()
        server.process.kill()
        server.process.wait()
        server.client.close()
    with running.running(tmp_path, url) as server:
        renewed = server.post(f"/v2/concurrency_limits/leases/{held['lease_id']}/renew")
        assert renewed.status_code == 204


@pytest.mark.slow
def test_without_a_database_it_runs_on_sqlite_and_says_so(tmp_path: Path) -> None:
    with running.running(tmp_path, None) as server:
        assert server.post("/flows/filter").json() == []
        assert server.get(f"{server.api}/ff/v1/status").json()["databases"] == []
        refused = server.get(f"{server.api}/ff/v1/copies").json()["error"]
        assert "FLOWFORGE_LEDGER_URL" in refused["hint"]
        assert "SQLite" in server.log.read_text()
        assert server.stop() == 0


def test_it_listens_on_loopback_only(server: running.Running) -> None:
    listening = {
        c.laddr
        for c in psutil.Process(server.process.pid).net_connections("inet")
        if c.status == psutil.CONN_LISTEN
    }
    ports = (server.api_port, server.ui_port, server.metrics_port)
    assert listening == {("127.0.0.1", port) for port in ports}


def test_no_secret_and_no_address_is_in_its_arguments(server: running.Running) -> None:
    command = Path(f"/proc/{server.process.pid}/cmdline").read_bytes()
    assert b"postgresql" not in command
    assert os.fsencode("flowforge.server") in command
