"""What the provider says of models before a job is taken."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest
from pydantic import SecretStr

from flowforge.engines.agent import known_models
from flowforge.engines.agent.known_models import KnownModels
from flowforge.rules.jobs.accounts import Account
from flowforge.rules.jobs.spec import JobSpec
from flowforge.rules.jobs.submission import Problem
from flowforge.twin.model.faults import Fault
from flowforge.twin.model.server import Server, serve


def paid_by(url: str, key: str = "sk-of-the-test") -> KnownModels:
    async def find() -> Account:
        return Account(name="default", api_key=SecretStr(key), base_url=url)

    return KnownModels(find)


def a_spec(**fields: Any) -> JobSpec:
    return JobSpec.model_validate({"prompt": "Do it.", **fields})


def asked(server: Server) -> int:
    return server.state.counters.requests["models"]


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"model": "claude-unheard-of"}, ("model", "does not know the model claude-unheard-of")),
        ({"model": "claude-3-opus-20240229"}, ("model", "was retired on 2026-01-05")),
        (
            {"model": "claude-opus-4-5", "max_tokens": 64_001},
            ("max_tokens", "holds 64,000 tokens at most"),
        ),
    ],
)
def test_what_a_model_cannot_do_is_named_by_its_field(
    fields: dict[str, Any], problem: tuple[str, str]
) -> None:
    async def story() -> list[Problem]:
        async with serve() as server:
            return await paid_by(server.url).check(a_spec(**fields))

    (found,) = asyncio.run(story())
    assert (found.field, problem[1] in found.message) == (problem[0], True)


def test_a_model_is_asked_about_once_and_again_before_anybody_is_refused() -> None:
    async def story() -> None:
        async with serve() as server:
            models = paid_by(server.url)
            for _ in range(3):
                assert await models.check(a_spec()) == []
            assert asked(server) == 1
            assert await models.check(a_spec(max_tokens=200_000))
            assert asked(server) == 2

    asyncio.run(story())


def test_a_provider_that_is_silent_keeps_nobody_waiting_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(known_models, "PATIENCE_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        models = paid_by(f"http://127.0.0.1:{mute.getsockname()[1]}")
        assert asyncio.run(models.check(a_spec())) == []
        monkeypatch.setattr(known_models, "PATIENCE_SECONDS", 600.0)
        assert asyncio.run(models.check(a_spec(model="claude-unheard-of"))) == []


@pytest.mark.parametrize(
    ("status", "kind"), [(401, None), (404, "a_gateway_without_models"), (500, None)]
)
def test_a_provider_that_does_not_say_refuses_nobody(status: int, kind: str | None) -> None:
    async def story() -> None:
        async with serve() as server:
            fault = Fault(kind="status", status=status, error_type=kind, on="models")
            server.state.faults.add(fault)
            models = paid_by(server.url)
            assert await models.check(a_spec(model="claude-unheard-of")) == []
            assert await models.check(a_spec(model="claude-unheard-of")) == []
            assert asked(server) == 1  # it is left alone for a while

    asyncio.run(story())


def test_a_key_that_nobody_can_send_refuses_nobody() -> None:
    async def story() -> None:
        async with serve() as server:
            assert await paid_by(server.url, "sk-\u2026\n").check(a_spec()) == []

    asyncio.run(story())
