"""What is answered at which address, apart from messages themselves."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field

from pydantic import RootModel

from flowforge.twin.model import models, replies
from flowforge.twin.model.asked import Counted, read
from flowforge.twin.model.batches import Batches
from flowforge.twin.model.faults import Fault, Place
from flowforge.twin.model.limits import Limits
from flowforge.twin.model.problems import Rejected
from flowforge.twin.model.state import State
from flowforge.twin.model.wire import Request

CONTROL = "/rehearsal/"
_BATCH = re.compile(r"^/v1/messages/batches/([^/]+)(/cancel|/results)?$")


@dataclass(frozen=True)
class Plain:
    """An answer that is sent at once and whole."""

    body: bytes
    kind: str = "application/json"
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


class _FaultList(RootModel[Fault | list[Fault]]):
    """One fault or several."""


def place_of(path: str) -> Place:
    """What a path of the API is about."""
    if path.startswith("/v1/models"):
        return "models"
    if path.startswith("/v1/messages/batches"):
        return "batches"
    return "count_tokens" if path == "/v1/messages/count_tokens" else "messages"


def to_plain(value: dict[str, object]) -> Plain:
    """A JSON object as an answer."""
    return Plain(json.dumps(value, ensure_ascii=False).encode())


def check_caller(request: Request) -> None:
    """Look for what every request of the API must have.

    Raises:
        Rejected: It has no key, or does not say which version it speaks.
    """
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if not (request.headers.get("x-api-key") or (scheme.lower() == "bearer" and token.strip())):
        raise Rejected(401, "x-api-key header or bearer token is required")
    if "anthropic-version" not in request.headers:
        raise Rejected(400, "anthropic-version: header is required")


def answer(request: Request, batches: Batches) -> Plain:
    """Answer a request to the API that is not for a message.

    Raises:
        Rejected: There is nothing at this address, or what was sent makes no sense.
    """
    method, path = request.method, request.path
    if (method, path) == ("POST", "/v1/messages/count_tokens"):
        return to_plain({"input_tokens": replies.count_tokens(read(Counted, request.body))})
    if (method, path) == ("GET", "/v1/models"):
        return to_plain(models.page(request.query))
    if method == "GET" and path.startswith("/v1/models/"):
        return to_plain(models.find(path.removeprefix("/v1/models/")).to_json())
    if (method, path) == ("POST", "/v1/messages/batches"):
        return to_plain(batches.create(request.body, request.headers.get("host", "")))
    if (method, path) == ("GET", "/v1/messages/batches"):
        return to_plain(batches.page(request.query))
    match = _BATCH.match(path)
    if match is None:
        raise Rejected(404, f"{method} {path} not found")
    return _of_batch(method, match[1], match[2] or "", batches)


def _of_batch(method: str, batch_id: str, action: str, batches: Batches) -> Plain:
    if (method, action) == ("GET", ""):
        return to_plain(batches.find(batch_id).to_json())
    if (method, action) == ("DELETE", ""):
        return to_plain(batches.delete(batch_id))
    if (method, action) == ("POST", "/cancel"):
        return to_plain(batches.cancel(batch_id))
    if (method, action) == ("GET", "/results"):
        return Plain(batches.results(batch_id), "application/x-jsonl")
    raise Rejected(405, f"{method} is not possible here", kind="invalid_request_error")


def control(request: Request, state: State) -> Plain:
    """Do what is asked of the rehearsal itself.

    Raises:
        Rejected: There is no such thing, or a page in a browser asks.
    """
    if "origin" in request.headers:
        raise Rejected(403, "The rehearsal takes no orders from a page in a browser.")
    action = request.path.removeprefix(CONTROL)
    if (request.method, action) == ("GET", "counters"):
        return to_plain(state.counters.to_json())
    if (request.method, action) == ("POST", "reset"):
        state.reset()
    elif (request.method, action) == ("POST", "limits"):
        state.limits.set(read(Limits, request.body))
    elif (request.method, action) == ("POST", "faults"):
        found = read(_FaultList, request.body).root
        state.faults.add(*(found if isinstance(found, list) else [found]))
    else:
        raise Rejected(404, f"{request.method} {request.path} not found")
    return to_plain({"waiting_faults": len(state.faults)})
