"""The few questions the platform asks its own server, by plain HTTP of the standard library."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request

from flowforge.errors import Unavailable
from flowforge.rules import crashes

_UNDER_WAY = ("RUNNING", "PENDING", "CANCELLING")
_PAGE = 200
_DEMAND_SECONDS = 30.0
# Loopback is never reached through a proxy.
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def ask(
    url: str, body: object | None = None, *, timeout_seconds: float = 5.0
) -> tuple[int, object]:
    """Ask a question; return status and JSON.

    Args:
        url: The whole address.
        body: Sent as JSON by POST; without it, GET.
        timeout_seconds: How long to wait for the answer.

    Raises:
        Unavailable: Nobody answered.
    """
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(
        url, data=data, headers={"content-type": "application/json"} if data else {}
    )
    try:
        with _DIRECT.open(request, timeout=timeout_seconds) as reply:
            return reply.status, _read(reply.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, _read(error.read())
    except (OSError, http.client.HTTPException) as error:
        raise Unavailable(
            f"{url} does not answer ({type(error).__name__}).",
            hint="Start the platform with `flowforge up`.",
        ) from error


def is_ready(url: str) -> bool:
    """Whether the server says it takes a write."""
    try:
        status, _ = ask(url)
    except Unavailable:
        return False
    return status == 200


def settle_lost_runs(api_url: str, pool: str) -> int:
    """Mark as crashed what was under way when the worker of a pool ended; return how many.

    A local pool has one worker and runs on this machine only, and what a dead worker left is ended
    before the next one starts. So before that nothing of the pool can be under way.

    Raises:
        Unavailable: The server did not answer, or could not do it.
    """
    settled = 0
    question = {
        "flow_runs": {"state": {"type": {"any_": list(_UNDER_WAY)}}},
        "work_pools": {"name": {"any_": [pool]}},
        "limit": _PAGE,
    }
    while True:
        lost = _demand(f"{api_url}/flow_runs/filter", question)
        assert isinstance(lost, list)
        for run in lost:
            state = {"type": "CRASHED", "name": "Crashed", "message": crashes.LOST}
            url = f"{api_url}/flow_runs/{run['id']}/set_state"
            _demand(url, {"state": state, "force": True})
        settled += len(lost)
        if len(lost) < _PAGE:
            return settled


def _demand(url: str, body: object) -> object:
    status, answer = ask(url, body, timeout_seconds=_DEMAND_SECONDS)
    if status not in (200, 201):
        raise Unavailable(
            f"The server answered {status} to {url}.", hint="Look at `flowforge logs server`."
        )
    return answer


def _read(body: bytes) -> object:
    try:
        return json.loads(body)
    except ValueError:
        return None
