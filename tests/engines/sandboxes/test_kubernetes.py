"""Sandboxes in pods: what a cluster must forbid, and what is left of them."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from kubernetes_asyncio import client, config

from flowforge.engines.sandboxes.kubernetes import KubernetesProvider, Placement
from flowforge.engines.sandboxes.sandbox import Provider
from flowforge.errors import Refused
from tests.engines.sandboxes.box import SMALL, Box
from tests.engines.sandboxes.namespaces import make_namespace, remove_namespace

pytestmark = [pytest.mark.slow, pytest.mark.cluster]
ROOT = Path(__file__).parents[3]
BRAIN = """
import asyncio, os, sys
from flowforge.engines.sandboxes.kubernetes import KubernetesProvider, Placement
from flowforge.rules.jobs.spec import SandboxChoice
async def work():
    choice = SandboxChoice(memory_mb=256, disk_mb=64)
    provider = KubernetesProvider(sys.argv[1], Placement(namespace=sys.argv[2]))
    sandbox = await provider.open("orphan", 7, choice)
    await sandbox.exec(["sh", "-c", "setsid sleep 987 &"], timeout_seconds=9)
    print(sandbox.id, flush=True)
    os.kill(os.getpid(), 9)
asyncio.run(work())
"""


@pytest.fixture(scope="module")
def provider(kubernetes: Provider) -> Provider:
    return kubernetes


async def read_pod(namespace: str, name: str) -> Any:
    await config.load_kube_config()
    async with client.ApiClient() as connection:
        core: Any = client.CoreV1Api(connection)
        return await core.read_namespaced_pod(name, namespace)


async def until_over(namespace: str, name: str) -> str:
    async with asyncio.timeout(30):
        while True:
            phase: str = (await read_pod(namespace, name)).status.phase
            if phase != "Running":
                return phase
            await asyncio.sleep(0.2)


def test_a_pod_has_no_token_no_names_and_no_rights(box: Box) -> None:
    assert isinstance(box.provider, KubernetesProvider)
    pod = box.wait(read_pod(box.provider.placement.namespace, box.sandbox.id)).spec
    assert (pod.automount_service_account_token, pod.enable_service_links) == (False, False)
    assert pod.restart_policy == "Never"
    assert "KUBERNETES" not in box.says("env")
    assert box.sh("ls /var/run/secrets").status != 0
    assert box.says("cat /etc/resolv.conf") == "nameserver 127.0.0.1"


def test_a_namespace_that_does_not_forbid_the_network_is_refused(provider: Provider) -> None:
    assert isinstance(provider, KubernetesProvider)
    name = f"open-{os.getpid()}"
    asyncio.run(make_namespace(name, policy=None))
    try:
        careless = KubernetesProvider(provider.image, Placement(namespace=name))
        with pytest.raises(Refused, match="no policy"):
            asyncio.run(careless.open("a-job", 1, SMALL))
        assert asyncio.run(careless.list_open()) == []
    finally:
        asyncio.run(remove_namespace(name))


def test_a_pod_ends_with_its_brain_and_is_listed_until_removed(provider: Provider) -> None:
    assert isinstance(provider, KubernetesProvider)
    namespace = provider.placement.namespace
    command = [sys.executable, "-c", BRAIN, provider.image, namespace]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        sandbox_id = process.communicate(timeout=60)[0].strip()
    assert asyncio.run(until_over(namespace, sandbox_id)) == "Failed"
    assert ("orphan", 7, sandbox_id) in asyncio.run(provider.list_open())
    asyncio.run(provider.remove(sandbox_id))
    assert sandbox_id not in [one for _, _, one in asyncio.run(provider.list_open())]
