"""From a profile to what makes its sandboxes."""

from __future__ import annotations

import asyncio

import pytest

from flowforge.engines.sandboxes import profiles
from flowforge.engines.sandboxes.docker import DockerProvider
from flowforge.engines.sandboxes.kubernetes import IMAGE, KubernetesProvider, Placement
from flowforge.engines.sandboxes.local import LocalProvider
from flowforge.errors import Refused, Unavailable
from flowforge.rules.jobs.profiles import DEFAULT, Profile
from flowforge.rules.jobs.spec import SandboxChoice
from tests.docker_engine import a_docker_profile
from tests.ports import free_port


def test_each_kind_of_profile_has_its_own_maker() -> None:
    pods = Profile(
        name="pods",
        kind="kubernetes",
        namespace="boxes",
        runtime_class="gvisor",
        node_selector={"pool": "jobs"},
        tolerated_taint="jobs",
    )
    made = profiles.provider_of(pods)
    assert isinstance(made, KubernetesProvider)
    assert made.placement == Placement("boxes", "gvisor", (("pool", "jobs"),), "jobs")
    assert made.image == IMAGE
    boxes = profiles.provider_of(Profile(name="boxes", kind="docker", image="a:1"))
    assert isinstance(boxes, DockerProvider)
    assert boxes.image == "a:1"
    assert isinstance(profiles.provider_of(DEFAULT), LocalProvider)


def test_what_a_job_may_not_have_is_refused_before_anything_is_asked() -> None:
    small = Profile(name="small", kind="docker", cpus=1)
    with pytest.raises(Refused, match=r"sandbox\.cpus: 2 is more than the 1") as caught:
        profiles.choose(SandboxChoice(profile="small", cpus=2), {"small": small})
    assert "flowforge sandbox list" in caught.value.hint


def test_a_place_that_does_not_answer_is_told_and_never_tried() -> None:
    away = Profile(name="away", kind="docker", address=f"tcp://127.0.0.1:{free_port()}")
    why = asyncio.run(profiles.why_not(profiles.provider_of(away)))
    assert isinstance(why, Unavailable)
    with pytest.raises(Unavailable):
        asyncio.run(profiles.try_out(away))


@pytest.mark.slow
def test_a_container_is_made_for_a_trial_and_removed() -> None:
    profile = a_docker_profile()
    assert asyncio.run(profiles.why_not(profiles.provider_of(profile))) is None
    tried = asyncio.run(profiles.try_out(profile))
    assert tried.says.startswith("Linux")
    assert 0 < tried.command_seconds < tried.open_seconds + tried.command_seconds
