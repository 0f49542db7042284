"""Hosts that sandboxes reach in tests: all of them are this machine."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

from flowforge.engines.sandboxes.contacts import Contact
from flowforge.engines.sandboxes.docker import DockerProvider
from flowforge.engines.sandboxes.kubernetes import KubernetesProvider
from flowforge.engines.sandboxes.local import LocalProvider
from flowforge.engines.sandboxes.proxy import Route
from flowforge.engines.sandboxes.sandbox import Provider, Sandbox
from tests.ports import free_port


async def to_loopback(name: str, port: int) -> list[str]:
    """Every name of the tests is this machine; one is a private address of another."""
    if name == "missing.test":
        raise OSError("no such name")
    return ["10.0.0.1"] if name == "private.test" else ["127.0.0.1"]


def loopback_only(address: str) -> bool:
    return address == "127.0.0.1"


ROUTE = Route(to_loopback, loopback_only)


@contextlib.asynccontextmanager
async def served(
    answer: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[int]:
    """A server of this machine; its port."""
    port = free_port()
    server = await asyncio.start_server(answer, "127.0.0.1", port)
    yield port
    server.close()
    await server.wait_closed()


@contextlib.asynccontextmanager
async def echo_server() -> AsyncIterator[int]:
    """A server that sends back what it gets."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()

    async with served(answer) as port:
        yield port


def routed(provider: Provider, route: Route = ROUTE) -> Provider:
    """The same kind of sandboxes, which reach the hosts of tests."""
    if isinstance(provider, KubernetesProvider):
        return KubernetesProvider(provider.image, provider.placement, route)
    if isinstance(provider, DockerProvider):
        return DockerProvider(image=provider.image, route=route)
    return LocalProvider(route=route)


async def contacts_of(sandbox: Sandbox, connections: int) -> list[Contact]:
    """Its contacts once so many connections are over: their end may come after the command's."""
    found: list[Contact] = []
    async with asyncio.timeout(30):
        while sum(contact.times for contact in found) < connections:
            found += sandbox.contacts()
            await asyncio.sleep(0.01)
    return found
