"""A real HTTP server between a client and Prefect's API, as a proxy in production stands there.

It answers FlowForge's own addresses from a table, passes the rest on, and does what proxies do on
bad days: answers 503, or drops a connection before or after the request got through.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx

from flowforge.errors import Refused

Fault = int | str
"""A status to answer instead, `drop` before passing on, or `lose` the reply after."""


class Relay:
    def __init__(self, prefect_url: str) -> None:
        self.prefect = httpx.Client(base_url=prefect_url.removesuffix("/api"), timeout=30)
        self.own: dict[str, tuple[int, Any]] = {}
        self.faults: list[Fault] = []
        self.seen: list[str] = []
        self.authorizations: list[str | None] = []
        self.after_creation: Callable[[str], None] = lambda flow_run_id: None

    def answer(self, path: str, **body: Any) -> None:
        """Set what one of FlowForge's own addresses answers."""
        self.own[f"/ff/v1/{path}"] = (200, {"schema": 1, **body})

    def answer_ready(self, reason: str | None = None) -> None:
        """Set what the server's probe answers: that it takes writes, or why not."""
        body = {"ready": reason is None, **({"reason": reason} if reason else {})}
        self.own["/ready"] = (200 if reason is None else 503, body)

    def refuse(self, path: str, error: Refused) -> None:
        told = {"kind": "refused", "message": error.message, "hint": error.hint}
        self.own[f"/ff/v1/{path}"] = (404, {"error": told})

    def post(self, path: str, body: Any) -> Any:
        reply = self.prefect.post(f"/api/{path}", json=body)
        assert reply.status_code < 300, reply.text
        return reply.json()

    def deploy(self, flow: str, name: str, *required: str, optional: tuple[str, ...] = ()) -> None:
        """Make a deployment whose runs nobody picks up."""
        names = enumerate((*required, *optional))
        parameters = {name: {"type": "string", "position": place} for place, name in names}
        schema = {"type": "object", "properties": parameters, "required": list(required)}
        self.post(
            "deployments/",
            {
                "name": name,
                "flow_id": self.post("flows/", {"name": flow})["id"],
                "parameter_openapi_schema": schema,
                "enforce_parameter_schema": True,
                "tags": ["flowforge"],
            },
        )

    def end(self, flow_run_id: str, kind: str, name: str | None = None, message: str = "") -> None:
        """Bring a run into a state, as the worker that ran it would."""
        state = {"type": kind, "name": name, "message": message}
        self.post(f"flow_runs/{flow_run_id}/set_state", {"state": state, "force": True})

    def runs(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.post("flow_runs/filter", {})
        return found


@contextmanager
def run_relay(prefect_url: str) -> Iterator[tuple[Relay, str]]:
    relay = Relay(prefect_url)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(relay))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield relay, f"http://127.0.0.1:{server.server_port}/api"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        relay.prefect.close()


def _handler(relay: Relay) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            relay.seen.append(self.path)
            relay.authorizations.append(self.headers.get("Authorization"))
            content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            fault = relay.faults.pop(0) if relay.faults else None
            if fault == "drop":
                self.close_connection = True
                return
            if isinstance(fault, int):
                self._send(fault, b"busy")
                return
            status, body = self._ask(content)
            if fault == "lose":
                self.close_connection = True
                return
            self._send(status, body)

        do_POST = do_PATCH = do_PUT = do_DELETE = do_GET

        def _ask(self, content: bytes) -> tuple[int, bytes]:
            path = self.path.partition("?")[0]
            if path.startswith("/ff/v1/") or path in relay.own:
                status, body = relay.own.get(path, (404, {"detail": "Not Found"}))
                return status, json.dumps(body, default=str).encode()
            reply = relay.prefect.request(
                self.command,
                self.path,
                content=content,
                headers={"Content-Type": "application/json"},
            )
            if path.endswith("/create_flow_run") and reply.status_code < 300:
                relay.after_creation(reply.json()["id"])
            return reply.status_code, reply.content

        def _send(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing: tests read `relay.seen`."""

    return Handler
