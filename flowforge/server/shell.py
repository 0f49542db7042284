"""The shell around Prefect's application: probes, metrics, our own API, and the guard outside all.

Pure ASGI, so websockets and streamed answers pass through untouched.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable

from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from flowforge.server.guard import Door, Guard
from flowforge.server.metrics import Meters, Timed
from flowforge.server.prober import Prober

_NO_STORE = {"cache-control": "no-store"}


class Shell:
    """Answers the few paths that are ours and passes every other one to Prefect."""

    def __init__(
        self,
        prefect: ASGIApp,
        own: ASGIApp,
        prober: Prober,
        public_api_url: str | None = None,
    ) -> None:
        self.prefect = prefect
        self.own = own
        self.prober = prober
        self.public_api_url = public_api_url

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Choose who answers."""
        path = scope["path"]
        if scope["type"] == "http" and path == "/health":
            await JSONResponse({"status": "ok"}, headers=_NO_STORE)(scope, receive, send)
        elif scope["type"] == "http" and path == "/ready":
            await self._readiness()(scope, receive, send)
        elif scope["type"] == "http" and path == "/ui-settings":
            plain = [(k, v) for k, v in scope["headers"] if k != b"accept-encoding"]
            asked = {**scope, "headers": plain}
            await self.prefect(asked, receive, _rewriting(send, self._api_url(scope)))
        elif path == "/ff/v1" or path.startswith("/ff/v1/"):
            scope["root_path"] = "/ff/v1"
            scope["path"] = scope["raw_path"].decode("ascii")
            await self.own(scope, receive, send)
        else:
            await self.prefect(scope, receive, send)

    def _readiness(self) -> Response:
        age = self.prober.age_seconds
        facts: dict[str, object] = {
            "ready": self.prober.is_ready,
            "last_write_age_seconds": None if age is None else round(age, 1),
        }
        if not self.prober.is_ready:
            facts["reason"] = self.prober.reason or "the last write was too long ago"
            facts["hint"] = "Check that the database of DATABASE_URL runs and takes writes."
        status = 200 if self.prober.is_ready else 503
        return JSONResponse(facts, status, headers=_NO_STORE)

    def _api_url(self, scope: Scope) -> str:
        """The API's address on the port the browser is on, so that one origin is enough."""
        host = next(v for k, v in scope["headers"] if k == b"host").decode("latin-1")
        if self.public_api_url and host in self.public_api_url:
            return self.public_api_url
        return f"{scope['scheme']}://{host}/api"


def guarded(app: ASGIApp, meters: Meters, door: Door) -> ASGIApp:
    """Time every request and refuse the foreign ones."""
    return Timed(Guard(app, door, meters.note_refusal), meters)


def metrics_app(meters: Meters, door: Door) -> ASGIApp:
    """What the metrics port answers."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["path"] == "/metrics" and scope["method"] in ("GET", "HEAD"):
            body, kind = meters.expose()
            response = Response(body, media_type=None, headers={"content-type": kind})
        else:
            response = Response("Only GET /metrics is answered here.\n", 404)
        await response(scope, receive, send)

    return Guard(answer, door, meters.note_refusal)


def _rewriting(send: Send, api_url: str) -> Callable[[Message], Awaitable[None]]:
    """Put the address into Prefect's answer about its UI."""
    start: Message | None = None
    body = b""

    async def rewrite(message: Message) -> None:
        nonlocal start, body
        if message["type"] == "http.response.start":
            start = message
            return
        body += message.get("body", b"")
        if message.get("more_body") or start is None:
            return
        if start["status"] == 200:
            body = json.dumps(json.loads(body) | {"api_url": api_url}).encode()
        kept = [(k, v) for k, v in start["headers"] if k.lower() != b"content-length"]
        start["headers"] = [*kept, (b"content-length", str(len(body)).encode())]
        await send(start)
        await send({"type": "http.response.body", "body": body})

    return rewrite
