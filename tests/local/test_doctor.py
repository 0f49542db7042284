from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from flowforge.local import doctor, processes, published
from flowforge.local.doctor import Finding
from flowforge.local.published import Run
from flowforge.local.state import VERSION, StateFolder
from flowforge.settings import Settings


@pytest.fixture
def folder(tmp_path: Path) -> StateFolder:
    folder = StateFolder(tmp_path / "state")
    folder.prepare()
    return folder


def _bad(findings: list[Finding]) -> list[Finding]:
    return [finding for finding in findings if not finding.is_fine]


def _examine(folder: StateFolder, **settings: Any) -> list[Finding]:
    return doctor.examine(Settings(**settings), folder)


def test_everything_it_calls_wrong_comes_with_what_to_do(folder: StateFolder) -> None:
    assert all(finding.hint for finding in _bad(_examine(folder)))


def test_it_works_where_nothing_was_ever_started(tmp_path: Path) -> None:
    found = doctor.examine(Settings(), StateFolder(tmp_path / "never" / "made"))
    assert {"Python", "disk", "state", "ports"} <= {finding.subject for finding in found}
    assert not (tmp_path / "never").exists()


def test_an_old_python_is_named() -> None:
    [finding] = doctor.check_python((3, 9, 2))
    assert not finding.is_fine
    assert "3.9.2" in finding.said
    assert "3.11" in finding.hint


def test_a_taken_port_is_named_with_whoever_has_it(folder: StateFolder) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        [finding] = [f for f in _bad(_examine(folder, ui_port=port)) if str(port) in f.said]
    assert str(os.getpid()) in finding.said
    assert "FLOWFORGE_UI_PORT" in finding.hint


class _Prefect(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = json.dumps("2.20.1").encode() if self.path == "/api/admin/version" else b"{}"
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def older_server() -> Iterator[int]:
    with HTTPServer(("127.0.0.1", 0), _Prefect) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def test_a_server_of_another_version_on_our_port_is_named(
    folder: StateFolder, older_server: int
) -> None:
    said = " ".join(finding.said for finding in _bad(_examine(folder, api_port=older_server)))
    assert "a Prefect server 2.20.1" in said


def test_our_own_server_of_another_version_is_named(folder: StateFolder, older_server: int) -> None:
    state = folder.read()
    assert state is not None
    state.ports = {"api": older_server, "ui": 1, "metrics": 2, "postgres": 3}
    folder.write(state)
    # A supervisor that is there: this very process.
    me = processes.identify(os.getpid())
    assert me is not None
    published.write_run(folder.path, Run(me, {}))
    said = [finding for finding in _bad(_examine(folder)) if "2.20.1" in finding.said]
    assert any("flowforge down" in finding.hint for finding in said)


def test_the_rest_of_a_killed_run_is_named(folder: StateFolder) -> None:
    ended = subprocess.Popen([sys.executable, "-S", "-c", "pass"])
    known = processes.identify(ended.pid)
    ended.wait()
    assert known is not None
    published.write_run(folder.path, Run(known, {}))
    environment = {processes.MARK: processes.mark_of(folder.path, "worker")}
    left = subprocess.Popen(
        [sys.executable, "-S", "-c", "import time; time.sleep(60)"], env=environment
    )
    try:
        [finding] = [f for f in _bad(_examine(folder)) if f.subject == "state"]
    finally:
        left.kill()
        left.wait()
    assert "killed" in finding.said
    assert str(left.pid) in finding.said
    assert "flowforge up" in finding.hint


def test_data_of_another_postgresql_is_named(folder: StateFolder) -> None:
    folder.postgres.mkdir()
    (folder.postgres / "PG_VERSION").write_text("9\n")
    [finding] = [f for f in _bad(_examine(folder)) if f.subject == "databases"]
    assert "PostgreSQL 9" in finding.said


def test_the_state_of_a_newer_flowforge_is_named(folder: StateFolder) -> None:
    folder.file.write_text(json.dumps({"version": VERSION + 1}))
    assert any("newer FlowForge" in finding.said for finding in _bad(_examine(folder)))


@pytest.mark.parametrize(("name", "fine"), [("C.UTF-8", True), ("xx_YY.UTF-8", False)])
def test_a_missing_locale_is_named(name: str, fine: bool) -> None:
    code = (
        "from flowforge.local import doctor\n"
        "[finding] = doctor.check_locale()\n"
        "print(finding.is_fine, finding.said, finding.hint)"
    )
    environment = {"LC_ALL": name, "PATH": os.environ["PATH"]}
    said = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    ).stdout
    assert said.startswith(str(fine))
    assert fine or (name in said and "LANG=C.UTF-8" in said)


@pytest.mark.skipif(os.geteuid() == 0, reason="does not apply: root may write everywhere")
def test_a_folder_that_may_not_be_written_is_named() -> None:
    [finding] = doctor.check_disk(Path("/proc/1/state"))
    assert not finding.is_fine


def test_programs_say_which_servers_they_can_back_up(folder: StateFolder) -> None:
    said = [f.said for f in _examine(folder) if f.subject == "PostgreSQL programs"]
    assert any("backs up servers up to 18" in text for text in said)
