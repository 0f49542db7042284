"""What the Kubernetes API is asked about pods, and the stream to a pod's first process."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
from kubernetes_asyncio import client, config, watch
from kubernetes_asyncio.stream import WsApiClient

from flowforge.errors import Refused, Unavailable

_INPUT, _OUTPUT, _ERROR = b"\0", 1, 3
_HEARTBEAT_SECONDS = 30
_END_SECONDS = 30
_REFUSED = (400, 401, 403, 404, 422)
_GONE = 404


class Stream:
    """Both ways to a pod's first process: what a session reads from and writes to."""

    def __init__(self, connection: aiohttp.ClientWebSocketResponse, owner: WsApiClient) -> None:
        self._connection = connection
        self._owner = owner
        self._left = b""
        self._to_send = bytearray()
        self._closing: asyncio.Task[None] | None = None

    async def read(self, size: int) -> bytes:
        """Some bytes of its output, or none at the end."""
        while not self._left:
            message = await self._connection.receive()
            if message.type is not aiohttp.WSMsgType.BINARY or message.data[:1] == bytes([_ERROR]):
                return b""
            if message.data[0] == _OUTPUT:
                self._left = message.data[1:]
        data, self._left = self._left[:size], self._left[size:]
        return data

    def write(self, data: bytes) -> None:
        """Take bytes for its input."""
        self._to_send += data

    async def drain(self) -> None:
        """Send what was taken."""
        data, self._to_send = bytes(self._to_send), bytearray()
        if data:
            try:
                await self._connection.send_bytes(_INPUT + data)
            except (aiohttp.ClientError, RuntimeError) as error:
                raise ConnectionResetError("the stream to the pod is closed") from error

    def close(self) -> None:
        """Let go of the pod, which ends it."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._close())

    async def wait_closed(self) -> None:
        """Wait until nothing is held any more."""
        self.close()
        if self._closing:
            await self._closing

    async def _close(self) -> None:
        await self._connection.close()
        await self._owner.close()


class Pods:
    """The pods of one namespace.

    Args:
        namespace: Where sandboxes live, and nothing else.
    """

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace

    async def policies(self) -> list[Any]:
        """The network policies of the namespace.

        Raises:
            Refused: They may not be read.
            Unavailable: The API does not answer.
        """
        async with _connected() as connection:
            api = client.NetworkingV1Api(connection)
            return list((await api.list_namespaced_network_policy(self._namespace)).items)

    async def start(self, pod: dict[str, Any], *, seconds: int) -> None:
        """Make a pod and wait until it runs.

        Raises:
            Refused: The cluster does not want it.
            Unavailable: It does not run in time, or the API does not answer.
        """
        name = pod["metadata"]["name"]
        async with _connected() as connection:
            api: Any = client.CoreV1Api(connection)
            await api.create_namespaced_pod(self._namespace, pod)
            phase = "Pending"
            async for _, found in self._watch(api, name, seconds):
                phase = found.status.phase
                if phase != "Pending":
                    break
        if phase != "Running":
            raise Unavailable(
                f"The pod {name} is {phase} after {seconds} s at most.",
                hint=f"Look at `kubectl -n {self._namespace} get events`: its image may be "
                "missing, or no node may have room.",
            )

    async def _watch(self, api: Any, name: str, seconds: int) -> AsyncIterator[tuple[str, Any]]:
        """What happens to a pod, from what it is now on."""
        only = {"field_selector": f"metadata.name={name}", "timeout_seconds": seconds}
        async with watch.Watch() as watcher:
            async for event in watcher.stream(api.list_namespaced_pod, self._namespace, **only):
                yield event["type"], event["object"]

    async def attach(self, name: str) -> Stream:
        """Take a pod's input and output into our hands; when they are let go it ends."""
        with _said_plainly():
            await _configure()
            owner = WsApiClient(heartbeat=_HEARTBEAT_SECONDS)
            try:
                api: Any = client.CoreV1Api(owner)
                attaching = await api.connect_get_namespaced_pod_attach(
                    name,
                    self._namespace,
                    stdin=True,
                    stdout=True,
                    stderr=False,
                    tty=False,
                    _preload_content=False,
                )
                return Stream(await attaching, owner)
            except BaseException:
                await owner.close()
                raise

    async def find(self, label: str) -> list[Any]:
        """Every pod with a label."""
        async with _connected() as connection:
            api = client.CoreV1Api(connection)
            found = await api.list_namespaced_pod(self._namespace, label_selector=label)
            return list(found.items)

    async def remove(self, name: str) -> None:
        """End and remove a pod, and wait until nothing of it runs; one that is gone is fine."""
        async with _connected() as connection:
            api: Any = client.CoreV1Api(connection)
            try:
                await api.delete_namespaced_pod(name, self._namespace, grace_period_seconds=1)
                await api.read_namespaced_pod(name, self._namespace)
            except client.ApiException as error:
                if error.status == _GONE:
                    return
                raise
            async for happened, _ in self._watch(api, name, _END_SECONDS):
                if happened == "DELETED":
                    return


@contextlib.asynccontextmanager
async def _connected() -> AsyncIterator[client.ApiClient]:
    with _said_plainly():
        await _configure()
        async with client.ApiClient() as connection:
            yield connection


async def _configure() -> None:
    """Find the cluster: the one this runs in, else that of KUBECONFIG."""
    try:
        config.load_incluster_config()  # type: ignore[no-untyped-call]
    except config.ConfigException:
        await config.load_kube_config()


@contextlib.contextmanager
def _said_plainly() -> Any:
    """Turn what the client raises into what a person can act on."""
    try:
        yield
    except config.ConfigException as error:
        raise Refused(
            "No Kubernetes cluster is known here.",
            hint="Set KUBECONFIG to the file that says where it is.",
        ) from error
    except client.ApiException as error:
        said = (
            f"The Kubernetes API answered {error.status}: {str(error.body or error.reason)[:500]}"
        )
        if error.status in _REFUSED:
            raise Refused(
                said, hint="Give this account the rights of the chart's role for sandboxes."
            ) from error
        raise Unavailable(said, hint="Look at the API server; trying again is safe.") from error
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise Unavailable(
            f"The Kubernetes API does not answer ({type(error).__name__}).",
            hint="Look whether the cluster is up and its address is reachable from here.",
        ) from error
