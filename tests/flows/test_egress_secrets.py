"""Secrets of jobs as flows: found by name, refused when they are not to be had, masked."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from blocks import EgressSecret
from flowforge.ledger.journal import connection, turns
from flowforge.rules.jobs.spec import JobSpec, SandboxChoice
from tests.flows.test_agent_job import DONE, entered, last_job, model, run, spec

__all__ = ["model"]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings(
        "ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning"
    ),
]
HOST = "api.example.com"
LOOKS = {
    "text": "I look.",
    "tools": [{"bash": 'printf "%s-" s3cr3t of the host; env; grep -c BEGIN "$SSL_CERT_FILE"'}],
}


@pytest.fixture
def saved(prefect_server: None) -> Iterator[str]:
    EgressSecret(host=HOST, value="s3cr3t-of-the-host-").save("api-token", overwrite=True)
    yield "api-token"
    EgressSecret.delete("api-token")


def job(*secrets: str, egress: tuple[str, ...] = (HOST,)) -> JobSpec:
    choice = SandboxChoice(memory_mb=256, disk_mb=64, egress=egress)
    return spec(LOOKS, DONE, sandbox=choice, secrets=secrets)


async def results(url: str, job: str) -> str:
    """What its tools said."""
    engine = connection.open_engine(url)
    try:
        return "".join(
            str(call.result) for turn in await turns.read(engine, job) for call in turn.tools
        )
    finally:
        await engine.dispose()


def test_a_secret_nobody_saved_is_refused_before_anything_is_written(
    model: str, saved: str
) -> None:
    state = run(spec=job(saved, "unheard-of"))

    assert state.is_failed()
    assert "No Egress secret is registered as 'unheard-of'" in str(state.message)
    assert "Create it in Prefect's UI" in str(state.message)


def test_a_secret_of_a_host_the_job_may_not_reach_is_refused(model: str, saved: str) -> None:
    state = run(spec=job(saved, egress=("lib.example",)))

    assert state.is_failed()
    assert f"Name {HOST} in `sandbox.egress`" in str(state.message)


def test_a_job_whose_secret_was_deleted_meanwhile_fails_and_says_so(model: str) -> None:
    state = run(job=entered(model, job("deleted")))

    assert state.is_failed()
    found, _ = last_job(model)
    assert found.state == "failed"
    assert "No Egress secret is registered as 'deleted'" in str(found.reason)


def test_a_secret_is_masked_in_what_a_job_leaves_however_it_came_there(
    model: str, saved: str
) -> None:
    state = run(spec=job(saved))

    assert state.is_completed(), state.message
    found, _ = last_job(model)
    said = asyncio.run(results(model, found.id))
    assert f"[secret api-token of {HOST}]" in said
    assert "s3cr3t-of-the-host" not in said
    assert "SSL_CERT_FILE=/tmp/.certificates.pem" in said
