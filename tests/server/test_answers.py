from __future__ import annotations

import asyncio

import httpx
import pytest

from flowforge.server.answers import create_app


def ask(path: str, auth: tuple[str, str] | None = None) -> httpx.Response:
    app = create_app(
        None, version="1", prefect="3", is_ready=lambda: True, auth_string="flowforge:s3cret"
    )

    async def send() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            return await client.get(path, auth=auth)

    return asyncio.run(send())


@pytest.mark.parametrize("auth", [None, ("flowforge", "wrong"), ("", ""), ("s3cret", "flowforge")])
def test_whoever_does_not_know_the_secret_is_told_nothing(auth: tuple[str, str] | None) -> None:
    answer = ask("/status", auth)
    assert answer.status_code == 401
    assert "PREFECT_API_AUTH_STRING" in answer.json()["error"]["hint"]


def test_whoever_knows_the_secret_is_answered() -> None:
    assert ask("/status", ("flowforge", "s3cret")).json()["databases"] == []


def test_without_a_ledger_the_answer_says_how_to_name_one() -> None:
    answer = ask("/copies", ("flowforge", "s3cret"))
    assert answer.status_code == 409
    assert "FLOWFORGE_LEDGER_URL" in answer.json()["error"]["hint"]
