"""Which sandbox a job gets as a flow: that of its saved profile, or a reason why none."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from blocks import SandboxProfile
from flowforge.engines.sandboxes.profiles import provider_of
from flowforge.rules.jobs.profiles import Profile
from flowforge.rules.jobs.spec import JobSpec, SandboxChoice
from tests.docker_engine import a_docker_profile
from tests.flows.test_agent_job import DONE, entered, last_job, model, run, spec
from tests.ports import free_port

__all__ = ["model"]

pytestmark = pytest.mark.filterwarnings(
    "ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning"
)
LOOKS = {"text": "I look.", "tools": [{"bash": "head -c 3 /proc/1/cmdline > who.txt; hostname"}]}


@pytest.fixture
def saved(prefect_server: None) -> Iterator[Profile]:
    """A profile `away` whose engine is not there."""
    profile = Profile(name="away", kind="docker", address=f"tcp://127.0.0.1:{free_port()}", cpus=1)
    SandboxProfile.of(profile).save(profile.name, overwrite=True)
    yield profile
    SandboxProfile.delete(profile.name)


def job(profile: str, **more: Any) -> JobSpec:
    return spec(
        LOOKS, DONE, sandbox=SandboxChoice(profile=profile, memory_mb=256, disk_mb=64, **more)
    )


@pytest.mark.slow
def test_a_job_beyond_its_profile_is_refused_before_it_is_written(
    model: str, saved: Profile
) -> None:
    state = run(spec=job(saved.name, cpus=2, egress=("lib.example",)))

    assert state.is_failed()
    assert "sandbox.cpus: 2 is more than the 1 of the profile away" in str(state.message)
    assert "sandbox.egress.0: lib.example is no host of the sandbox profile" in str(state.message)


@pytest.mark.slow
def test_a_job_waits_for_an_engine_that_is_away(model: str, saved: Profile) -> None:
    state = run(spec=job(saved.name))

    assert state.name == "Waiting", state.message
    assert "unavailable: The docker engine does not answer" in str(state.message)


@pytest.mark.slow
def test_a_job_whose_profile_was_deleted_meanwhile_fails_and_says_what_there_is(
    model: str,
) -> None:
    state = run(job=entered(model, job("gone")))

    assert state.is_failed()
    found, _ = last_job(model)
    assert found.state == "failed"
    assert "There is no sandbox profile 'gone'; there are: " in str(found.reason)
    assert "flowforge sandbox list" in str(found.reason)


@pytest.mark.slow
def test_a_job_runs_in_a_container_of_its_profile_and_leaves_none(model: str) -> None:
    profile = a_docker_profile()
    SandboxProfile.of(profile).save(profile.name, overwrite=True)

    state = run(spec=job(profile.name))

    assert state.is_completed(), state.message
    found, patch = last_job(model)
    assert b"+++ b/who.txt" in patch
    left = asyncio.run(provider_of(profile).list_open())
    assert found.id not in [one for one, _, _ in left]
