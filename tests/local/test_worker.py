"""Before a worker takes runs, what the last one left is crashed, and nothing else is touched."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from flowforge.errors import Unavailable
from flowforge.local import server_api
from flowforge.rules import crashes

POOL = "flowforge-operations"


class Api(ThreadingHTTPServer):
    """The two questions of Prefect's API that matter here."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answering)
        self.lost = [{"id": "a"}, {"id": "b"}]
        self.asked: list[tuple[str, Any]] = []
        self.status_of_reports = 201

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/api"


class Answering(BaseHTTPRequestHandler):
    server: Api

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.asked.append((self.path, body))
        is_question = self.path.endswith("/filter")
        answer = json.dumps(self.server.lost if is_question else {}).encode()
        self.send_response(200 if is_question else self.server.status_of_reports)
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: object) -> None:
        """Stay quiet."""


@pytest.fixture
def api() -> Iterator[Api]:
    with Api() as made:
        serving = threading.Thread(target=made.serve_forever, args=(0.01,))
        serving.start()
        yield made
        made.shutdown()
        serving.join()


def test_what_a_dead_worker_left_is_marked_crashed(api: Api) -> None:
    assert server_api.settle_lost_runs(api.url, POOL) == 2
    (_, question), *reports = api.asked
    assert question["work_pools"] == {"name": {"any_": [POOL]}}
    assert set(question["flow_runs"]["state"]["type"]["any_"]) == {
        *("PENDING", "RUNNING", "CANCELLING")
    }
    assert [path for path, _ in reports] == [f"/api/flow_runs/{i}/set_state" for i in "ab"]
    for _, report in reports:
        assert report["force"]
        assert report["state"]["type"] == "CRASHED"
        assert report["state"]["message"] == crashes.LOST


def test_a_server_that_cannot_note_it_is_asked_again_before_any_run_is_taken(api: Api) -> None:
    api.status_of_reports = 503
    with pytest.raises(Unavailable, match="answered 503"):
        server_api.settle_lost_runs(api.url, POOL)
