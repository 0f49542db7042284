"""Sandboxes in pods of their own: no network, no DNS, no token, nothing to gain.

The brain is attached to the pod's first process through the API server and to nothing else, so
the pod needs no port and the network policy of its namespace forbids everything; also what a job
may reach comes and goes that way. When the brain
lets go, however it ends, that process ends and the pod is over; its object is removed by whoever
compares pods and jobs.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from secrets import randbelow, token_hex
from typing import Any

from flowforge.engines.sandboxes import kept, program, way_out
from flowforge.engines.sandboxes.inside import frames
from flowforge.engines.sandboxes.kept import Kept, Share
from flowforge.engines.sandboxes.pods import Pods
from flowforge.engines.sandboxes.proxy import PUBLIC, Route
from flowforge.engines.sandboxes.sandbox import Sandbox
from flowforge.engines.sandboxes.session import Session, meet
from flowforge.errors import FlowForgeError, Refused
from flowforge.rules.jobs.egress_secrets import HostSecret
from flowforge.rules.jobs.spec import SandboxChoice

IMAGE = "python:3.11-slim"
NAMESPACE = "flowforge-sandboxes"
_LABEL = "flowforge.sandbox"
_JOB, _FENCE = f"{_LABEL}/job", f"{_LABEL}/fence"
_MEGABYTE = 1024 * 1024
_SHARE_OF_TEMPORARY = 4
_START_SECONDS = 120
_LONGEST_SECONDS = 8 * 86_400
_FIRST_ACCOUNT, _ACCOUNTS = 20_000, 40_000
"""Each sandbox has an account of its own, as the kernel counts processes by account."""


@dataclass(frozen=True)
class Placement:
    """Where in a cluster the pods of sandboxes go."""

    namespace: str = NAMESPACE
    runtime_class: str | None = None
    """Such as `gvisor`, where the cluster has one."""

    node_selector: tuple[tuple[str, str], ...] = ()
    tolerated_taint: str | None = None


_DEFAULT = Placement()


class KubernetesProvider:
    """Makes sandboxes of a cluster.

    Args:
        image: What commands find; it needs Python 3.9 or newer.
        placement: Where the pods go.
        route: How names of hosts become addresses that may be reached.
    """

    kind = "kubernetes"

    def __init__(
        self,
        image: str = IMAGE,
        placement: Placement = _DEFAULT,
        route: Route = PUBLIC,
    ) -> None:
        self.image = image
        self.placement = placement
        self._route = route
        self._pods = Pods(placement.namespace)

    def why_not(self) -> FlowForgeError | None:
        """Nothing of this machine is needed; a cluster that is missing is found when asked."""
        return None

    async def open(
        self, job: str, fence: int, choice: SandboxChoice, secrets: Sequence[HostSecret] = ()
    ) -> Sandbox:
        """Start a pod and meet its keeper."""
        way = way_out.make(choice, secrets, self._route)
        await self._check_network()
        name = f"sandbox-{token_hex(8)}"
        async with AsyncExitStack() as undo:
            undo.push_async_callback(self._pods.remove, name)
            pod = self._describe(name, job, fence, choice)
            await self._pods.start(pod, seconds=_START_SECONDS)
            stream = await self._pods.attach(name)
            undo.push_async_callback(stream.wait_closed)
            wishes = kept.wishes(choice, way)
            stream.write(program.pack() + frames.pack_values(frames.START, 0, wishes))
            await stream.drain()
            workspace = await meet(stream, seconds=_START_SECONDS)
            ending = undo.pop_all()
        share = Share(cpus=choice.cpus, disk_bytes=choice.disk_mb * _MEGABYTE)
        session = Session(stream, stream, way.answer)
        return Kept(name, workspace, session, share, way.contacts, ending.aclose)

    async def list_open(self) -> list[tuple[str, int, str]]:
        """Every sandbox of the namespace, also those that are over."""
        found = [pod.metadata for pod in await self._pods.find(_LABEL)]
        return [(one.annotations[_JOB], int(one.annotations[_FENCE]), one.name) for one in found]

    async def remove(self, sandbox_id: str) -> None:
        """End a sandbox of whichever process."""
        await self._pods.remove(sandbox_id)

    async def _check_network(self) -> None:
        """Make no pod where a network is not forbidden to it."""
        for policy in await self._pods.policies():
            spec = policy.spec
            selects_all = not (
                spec.pod_selector.match_labels or spec.pod_selector.match_expressions
            )
            is_for_both = set(spec.policy_types or ()) >= {"Ingress", "Egress"}
            if selects_all and is_for_both and not (spec.ingress or spec.egress):
                return
        raise Refused(
            f"The namespace {self.placement.namespace} has no policy that forbids all network.",
            hint="Install the chart's NetworkPolicy for sandboxes, which denies everything.",
        )

    def _describe(self, name: str, job: str, fence: int, choice: SandboxChoice) -> dict[str, Any]:
        account = _FIRST_ACCOUNT + randbelow(_ACCOUNTS)
        spec: dict[str, Any] = {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": 1,
            "activeDeadlineSeconds": _LONGEST_SECONDS,
            "hostname": "sandbox",
            "dnsPolicy": "None",
            "dnsConfig": {"nameservers": ["127.0.0.1"]},
            "nodeSelector": dict(self.placement.node_selector),
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": account,
                "runAsGroup": account,
                "fsGroup": account,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            **_disks(choice),
        }
        spec["containers"] = [_container(choice.image or self.image, choice, spec)]
        if self.placement.runtime_class:
            spec["runtimeClassName"] = self.placement.runtime_class
        if self.placement.tolerated_taint:
            spec["tolerations"] = [{"key": self.placement.tolerated_taint, "operator": "Exists"}]
        annotations = {_JOB: job, _FENCE: str(fence)}
        metadata = {"name": name, "labels": {_LABEL: ""}, "annotations": annotations}
        return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def _temporary_mb(choice: SandboxChoice) -> int:
    return max(choice.disk_mb // _SHARE_OF_TEMPORARY, 16)


def _disks(choice: SandboxChoice) -> dict[str, Any]:
    sizes = {
        "workspace": choice.disk_mb,
        "tmp": _temporary_mb(choice),
        "shm": _temporary_mb(choice),
    }
    return {
        "volumes": [
            {"name": name, "emptyDir": {"medium": "Memory", "sizeLimit": f"{size}Mi"}}
            for name, size in sizes.items()
        ]
    }


def _container(image: str, choice: SandboxChoice, spec: dict[str, Any]) -> dict[str, Any]:
    """The only container; its disks are memory, so they are in the sum."""
    memory = choice.memory_mb + choice.disk_mb + 2 * _temporary_mb(choice) + kept.KEEPER_MB
    places = {"workspace": "/workspace", "tmp": "/tmp", "shm": "/dev/shm"}
    return {
        "name": "sandbox",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": list(program.COMMAND),
        "workingDir": "/workspace",
        "stdin": True,
        "stdinOnce": True,
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "resources": {
            "requests": {"cpu": "100m", "memory": f"{min(choice.memory_mb, memory)}Mi"},
            "limits": {
                "cpu": f"{int(choice.cpus * 1000)}m",
                "memory": f"{memory}Mi",
                "ephemeral-storage": "64Mi",
            },
        },
        "volumeMounts": [
            {"name": volume["name"], "mountPath": places[volume["name"]]}
            for volume in spec["volumes"]
        ],
    }
