"""A namespace as the chart makes one for sandboxes: restricted, and without any network.

As a program it says whether there is a cluster to make it in.
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

from kubernetes_asyncio import client, config

from flowforge.engines.sandboxes.kubernetes import KubernetesProvider
from flowforge.errors import FlowForgeError

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


def main() -> None:
    """End with a hint where no cluster answers."""
    if not os.environ.get("KUBECONFIG"):
        sys.exit(
            "There is no cluster to test with. Hint: `kind create cluster` makes one; set "
            "KUBECONFIG to the file that says where it is, and FLOWFORGE_SANDBOX_IMAGE to an image "
            "with Python that its nodes have or can pull."
        )
    try:
        asyncio.run(KubernetesProvider().list_open())
    except FlowForgeError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
