"""Every run that crashes is told with a hint, whoever reports it.

A crash is reported by a worker, a runner, the run itself or the local platform, each in its own
process. What they have in common is the request by which they say so; it is rewritten on its way to
Prefect, so the state in its database, its UI and its notifications carries the hint.
"""

from __future__ import annotations

import json
import re

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from flowforge.rules import crashes

_REPORT = re.compile(r"/api/flow_runs/(?:(?P<run>[0-9a-fA-F-]{36})/set_state|bulk_set_state)/?")


class Explained:
    """Puts the hint into requests that set the state of a run to crashed."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass every request on, a report of a crash with its message rewritten."""
        report = _REPORT.fullmatch(scope["path"]) if scope["type"] == "http" else None
        if report is None or scope["method"] != "POST":
            await self.app(scope, receive, send)
            return
        body, left = await _read(receive)
        if left is None:
            body = rewrite(body, report["run"])
            plain = [(k, v) for k, v in scope["headers"] if k.lower() != b"content-length"]
            length = (b"content-length", str(len(body)).encode())
            scope = {**scope, "headers": [*plain, length]}
        await self.app(scope, _replaying(body, left, receive), send)


def rewrite(body: bytes, run: str | None) -> bytes:
    """The body of a report, with the message explained; anything else as it is.

    Args:
        body: What the request carries.
        run: Id of the run it is about, when it is about one.
    """
    try:
        asked = json.loads(body)
    except ValueError:
        return body  # Prefect refuses it in its own words
    state = asked.get("state") if isinstance(asked, dict) else None
    if not isinstance(state, dict) or state.get("type") != "CRASHED":
        return body
    message = state.get("message")
    if message is not None and not isinstance(message, str):
        return body
    state["message"] = crashes.explain(message, run)
    return json.dumps(asked).encode()


async def _read(receive: Receive) -> tuple[bytes, Message | None]:
    """The whole body, and the message that came instead of its end when the client left."""
    body = b""
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return body, message
        body += message.get("body", b"")
        if not message.get("more_body"):
            return body, None


def _replaying(body: bytes, left: Message | None, receive: Receive) -> Receive:
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": left is not None}]
    waiting += [left] if left is not None else []

    async def replay() -> Message:
        return waiting.pop(0) if waiting else await receive()

    return replay
