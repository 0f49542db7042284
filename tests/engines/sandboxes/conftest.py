"""Every kind of sandbox there is here; the same tests for all of them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator

import pytest

from flowforge.engines.sandboxes.docker import IMAGE, DockerProvider
from flowforge.engines.sandboxes.kubernetes import KubernetesProvider, Placement
from flowforge.engines.sandboxes.local import LocalProvider
from flowforge.engines.sandboxes.sandbox import Provider
from tests.docker_engine import find_image
from tests.engines.sandboxes.box import SMALL, Box
from tests.engines.sandboxes.namespaces import make_namespace, remove_namespace


@pytest.fixture(scope="session")
def local() -> Provider:
    return _usable(LocalProvider())


@pytest.fixture(scope="session")
def docker() -> Provider:
    """An engine that is there, by DOCKER_HOST or where it usually is."""
    return DockerProvider(image=find_image())


@pytest.fixture(scope="session")
def kubernetes() -> Iterator[Provider]:
    """A namespace of its own in the cluster of KUBECONFIG, with an image its nodes have."""
    if not os.environ.get("KUBECONFIG"):
        pytest.skip("does not apply: no cluster; kind create cluster, then set KUBECONFIG")
    name = f"sandboxes-{os.getpid()}"
    asyncio.run(make_namespace(name))
    image = os.environ.get("FLOWFORGE_SANDBOX_IMAGE", IMAGE)
    yield KubernetesProvider(image, Placement(namespace=name))
    asyncio.run(remove_namespace(name))


KINDS = (
    "local",
    pytest.param("docker", marks=pytest.mark.slow),
    pytest.param("kubernetes", marks=[pytest.mark.slow, pytest.mark.cluster]),
)


@pytest.fixture(scope="module", params=KINDS)
def provider(request: pytest.FixtureRequest) -> Provider:
    made: Provider = request.getfixturevalue(request.param)
    return made


def _usable(provider: Provider) -> Provider:
    if (why := provider.why_not()) is not None:
        pytest.skip(str(why))
    return provider


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def boxes(runner: asyncio.Runner, provider: Provider) -> Iterator[list[Box]]:
    """The sandbox that tests use one after the other, until one of them ends it."""
    open_ones: list[Box] = []
    yield open_ones
    for box in open_ones:
        runner.run(box.sandbox.close())


@pytest.fixture
def box(boxes: list[Box], runner: asyncio.Runner, provider: Provider) -> Iterator[Box]:
    if not boxes:
        boxes.append(Box(runner, provider, runner.run(provider.open("a-job", 1, SMALL))))
    yield boxes[0]
    if not boxes[0].clean():
        runner.run(boxes.pop().sandbox.close())
