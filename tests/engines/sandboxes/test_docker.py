"""Sandboxes in containers: what is asked of the engine, and what is left of them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from pathlib import Path

import docker as docker_sdk  # type: ignore[import-untyped]
import pytest

from flowforge.engines.sandboxes.docker import DockerProvider
from flowforge.engines.sandboxes.sandbox import Provider
from flowforge.errors import Refused, Unavailable
from tests.engines.sandboxes.box import SMALL, Box
from tests.ports import free_port

ROOT = Path(__file__).parents[3]
BRAIN = """
import asyncio, sys
from flowforge.engines.sandboxes.docker import DockerProvider
from flowforge.rules.jobs.spec import SandboxChoice
async def work():
    choice = SandboxChoice(memory_mb=256, disk_mb=64, image=sys.argv[1])
    sandbox = await DockerProvider().open("orphan", 7, choice)
    await sandbox.exec(["sh", "-c", "setsid sleep 987 &"], timeout_seconds=9)
    print(sandbox.id, flush=True)
    await asyncio.sleep(600)
asyncio.run(work())
"""


@pytest.fixture(scope="module")
def provider(docker: Provider) -> Provider:
    return docker


def test_an_engine_that_is_not_there_is_named_with_the_way_out() -> None:
    why = DockerProvider(f"tcp://127.0.0.1:{free_port()}").why_not()
    assert isinstance(why, Unavailable)
    assert "apt install docker.io" in why.hint


@pytest.mark.slow
def test_an_image_that_is_not_there_is_refused(provider: Provider) -> None:
    choice = SMALL.model_copy(update={"image": "localhost/no-such-image:1"})
    with pytest.raises(Refused, match="no such image") as refused:
        asyncio.run(provider.open("a-job", 1, choice))
    assert "docker pull" in refused.value.hint
    assert asyncio.run(provider.list_open()) == []


@pytest.mark.slow
def test_the_engine_holds_every_bound(box: Box) -> None:
    with contextlib.closing(docker_sdk.from_env()) as client:
        container = client.containers.get(box.sandbox.id)
        host = container.attrs["HostConfig"]
    assert (host["NetworkMode"], host["CapDrop"], host["ReadonlyRootfs"]) == ("none", ["ALL"], True)
    assert host["SecurityOpt"] == ["no-new-privileges"]
    assert (host["NanoCpus"], host["Privileged"], host["Binds"]) == (10**9, False, None)
    assert host["Memory"] == host["MemorySwap"] > 256 * 1024**2
    assert 0 < host["PidsLimit"] < 1000
    assert container.labels["flowforge.sandbox.job"] == "a-job"


@pytest.mark.slow
def test_nothing_survives_a_brain_that_is_killed(provider: Provider) -> None:
    assert isinstance(provider, DockerProvider)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", BRAIN, provider.image]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    with process, contextlib.ExitStack() as stack:
        stack.callback(process.kill)
        assert process.stdout
        sandbox_id = process.stdout.readline().strip()
        assert ("orphan", 7, sandbox_id) in asyncio.run(provider.list_open())
    with (
        contextlib.closing(docker_sdk.from_env(timeout=20)) as client,
        contextlib.suppress(docker_sdk.errors.APIError),
    ):
        client.containers.get(sandbox_id).wait(condition="removed")
    assert sandbox_id not in [one for _, _, one in asyncio.run(provider.list_open())]
