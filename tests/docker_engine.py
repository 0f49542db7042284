"""The docker engine of this machine, for tests that need one."""

from __future__ import annotations

import contextlib

import docker  # type: ignore[import-untyped]
import pytest

from flowforge.engines.sandboxes.docker import IMAGE, DockerProvider
from flowforge.rules.jobs.profiles import Profile

IMAGES = (IMAGE, "localhost/python:3.11")


def find_image() -> str:
    """An image for sandboxes that the engine has; without engine or image the test is skipped."""
    if (why := DockerProvider().why_not()) is not None:
        pytest.skip(str(why))
    with contextlib.closing(docker.from_env()) as client:
        images = {tag for image in client.images.list() for tag in image.tags}
    for image in IMAGES:
        if image in images:
            return image
    pytest.skip(f"the docker engine has no image for sandboxes: docker pull {IMAGE}")


def a_docker_profile() -> Profile:
    """A profile of that engine."""
    return Profile(name="boxes", kind="docker", image=find_image(), cpus=2, memory_mb=512)
