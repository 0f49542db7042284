"""A namespace as the chart makes one for sandboxes: restricted, and without any network."""

from __future__ import annotations

from typing import Any

from kubernetes_asyncio import client, config

LABELS = {"pod-security.kubernetes.io/enforce": "restricted"}
POLICY = {
    "metadata": {"name": "nothing"},
    "spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]},
}


async def make_namespace(name: str, *, policy: dict[str, Any] | None = POLICY) -> None:
    await config.load_kube_config()
    async with client.ApiClient() as connection:
        core: Any = client.CoreV1Api(connection)
        await core.create_namespace({"metadata": {"name": name, "labels": LABELS}})
        network: Any = client.NetworkingV1Api(connection)
        if policy:
            await network.create_namespaced_network_policy(name, policy)


async def remove_namespace(name: str) -> None:
    await config.load_kube_config()
    async with client.ApiClient() as connection:
        core: Any = client.CoreV1Api(connection)
        await core.delete_namespace(name)
