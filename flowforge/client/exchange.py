"""Talking to the server without touching the network: requests go out, replies come in.

What the client does is written once, as generators that yield a `Request` or a `Pause` and are
sent a `Reply` or a `Lost`. Two thin drivers carry them out, one blocking and one asynchronous.
"""

from __future__ import annotations

import random
import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias, TypeVar

from pydantic import JsonValue

from flowforge.errors import Damaged, FlowForgeError, Refused, Unavailable

RETRIED = frozenset({429, 502, 503, 504})
PATIENCE_SECONDS = 60.0
"""How long a request is repeated while the server is away or busy."""

_FIRST_PAUSE_SECONDS = 0.2
_LONGEST_PAUSE_SECONDS = 8.0
_KINDS: Mapping[str, type[FlowForgeError]] = {
    "unavailable": Unavailable,
    "refused": Refused,
    "damaged": Damaged,
}

Query: TypeAlias = Mapping[str, str | list[str]]
"""A list is a name that is given several times."""

T = TypeVar("T")


@dataclass(frozen=True)
class Request:
    """One HTTP request that may be repeated without doing anything twice."""

    method: str
    url: str
    query: Query = field(default_factory=dict)
    body: JsonValue = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Pause:
    """Time to let pass before going on."""

    seconds: float


@dataclass(frozen=True)
class Reply:
    """What the server answered; `body` is `None` when it was not JSON."""

    status: int
    body: JsonValue
    retry_after_seconds: float = 0.0
    content: bytes = b""

    @property
    def is_ok(self) -> bool:
        """Whether it is a 2xx."""
        return 200 <= self.status < 300


@dataclass(frozen=True)
class Lost:
    """The request or its reply did not get through."""

    reason: str


Exchange: TypeAlias = Generator[Request | Pause, Reply | Lost | None, T]


def ask(request: Request, patience_seconds: float = PATIENCE_SECONDS) -> Exchange[Reply]:
    """Send a request until it is answered for good.

    Raises:
        Unavailable: The server stayed away or busy for `patience_seconds`.
    """
    deadline = time.monotonic() + patience_seconds
    pause_seconds = _FIRST_PAUSE_SECONDS
    while True:
        answer = yield request
        assert answer is not None, "a driver answers every request"
        if isinstance(answer, Reply) and answer.status not in RETRIED:
            return answer
        wait_seconds = pause_seconds * random.uniform(0.5, 1.0)
        if isinstance(answer, Reply):
            wait_seconds = max(wait_seconds, answer.retry_after_seconds)
        if time.monotonic() + wait_seconds > deadline:
            raise give_up(request, answer)
        yield Pause(wait_seconds)
        pause_seconds = min(pause_seconds * 2, _LONGEST_PAUSE_SECONDS)


def call(request: Request, patience_seconds: float = PATIENCE_SECONDS) -> Exchange[JsonValue]:
    """Send a request and return the JSON of its success.

    Raises:
        Unavailable: The server stayed away, is busy or broken.
        Refused: The server said no.
    """
    reply = yield from ask(request, patience_seconds)
    if not reply.is_ok:
        raise explain(reply, request)
    if reply.body is None:
        raise not_flowforge(request)
    return reply.body


def explain(reply: Reply, request: Request) -> FlowForgeError:
    """Turn a reply that is no success into one of the three kinds."""
    if (told := _told(reply.body)) is not None:
        return told
    detail = reply.body.get("detail") if isinstance(reply.body, dict) else None
    said = f": {detail}" if detail else "."
    if reply.status in (401, 403):
        return Refused(
            f"{request.url} did not let us in (HTTP {reply.status}).",
            hint="Set PREFECT_API_AUTH_STRING, or choose a profile that has it with --profile.",
        )
    if reply.status == 404:
        return not_flowforge(request)
    if reply.status < 500:
        return Refused(
            f"The server refused the request{said}", hint="Correct what it names, then try again."
        )
    return Unavailable(
        f"The server failed to answer (HTTP {reply.status}){said}",
        hint="Look at the server's log (`flowforge logs server`), then try again.",
    )


def not_flowforge(request: Request) -> Refused:
    """Whoever answered does not know our addresses."""
    return Refused(
        f"{request.url} was answered, but not by FlowForge.",
        hint="Check FLOWFORGE_API_URL or the profile; `flowforge status` shows what runs here.",
    )


def _told(body: JsonValue) -> FlowForgeError | None:
    error = body.get("error") if isinstance(body, dict) else None
    if not isinstance(error, dict) or error.get("kind") not in _KINDS:
        return None
    kind = _KINDS[str(error["kind"])]
    return kind(str(error.get("message", "")), hint=str(error.get("hint", "")))


def give_up(request: Request, answer: Reply | Lost) -> FlowForgeError:
    """The error of a server that stayed away or busy."""
    if isinstance(answer, Reply):
        return _told(answer.body) or Unavailable(
            f"The server is too busy to answer (HTTP {answer.status}).",
            hint="Try again in a minute; `flowforge status` tells how it is.",
        )
    root = "/".join(request.url.split("/", 3)[:3])
    return Unavailable(
        f"No FlowForge server answers at {root} ({answer.reason}).",
        hint="Start it with `flowforge up`, or name another with --profile or FLOWFORGE_API_URL.",
    )
