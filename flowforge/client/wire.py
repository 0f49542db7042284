"""What both drivers share: how httpx is opened, asked and read, and what a run last said."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias, TypedDict

import httpx
from pydantic import JsonValue

from flowforge.client.address import Environment
from flowforge.client.exchange import Lost, Query, Reply, Request
from flowforge.client.runs import RunFacts, Step

OnLook: TypeAlias = Callable[[RunFacts, list[Step]], None]
_TIMEOUT = httpx.Timeout(30.0, connect=5.0)


class ToldRun:
    """What a run said when last asked."""

    def __init__(self, facts: RunFacts) -> None:
        self.facts = facts

    @property
    def id(self) -> str:
        """Prefect's id of the run."""
        return self.facts.id

    @property
    def name(self) -> str:
        """What people call it."""
        return self.facts.name

    @property
    def state(self) -> str:
        """The state's name: `Running`, `Completed`, `Skipped` ..."""
        return self.facts.state

    @property
    def state_message(self) -> str:
        """What the state says; holds the hint of a failed run."""
        return self.facts.state_message

    @property
    def url(self) -> str:
        """The run's page."""
        return self.facts.url

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} {self.state}>"


class Options(TypedDict):
    """How a client is opened."""

    auth: tuple[str, str] | None
    timeout: httpx.Timeout
    trust_env: bool


class Arguments(TypedDict):
    """One request, as httpx takes it."""

    method: str
    url: str
    params: Query
    json: JsonValue
    headers: Mapping[str, str]


def options(environment: Environment) -> Options:
    """How to open a client of this environment."""
    return Options(
        auth=environment.credentials, timeout=_TIMEOUT, trust_env=not environment.is_loopback
    )


def arguments(asked: Request) -> Arguments:
    """A request, as httpx takes it."""
    return Arguments(
        method=asked.method,
        url=asked.url,
        params=asked.query,
        json=asked.body,
        headers=asked.headers,
    )


def read_reply(response: httpx.Response) -> Reply:
    """A response of httpx, as exchanges take it."""
    try:
        body: JsonValue = response.json()
    except ValueError:  # a proxy's page, or the UI's
        body = None
    after = response.headers.get("retry-after", "")
    seconds = float(after) if after.isdigit() else 0.0
    return Reply(response.status_code, body, seconds, response.content)


def read_loss(error: httpx.TransportError) -> Lost:
    """What httpx could not do, as exchanges take it."""
    return Lost(str(error) or type(error).__name__)
