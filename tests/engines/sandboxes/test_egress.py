"""The one way out of a sandbox: only by name, only to hosts that were named, all of it told."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence

import pytest

from flowforge.engines.sandboxes.connections import Streamed
from flowforge.engines.sandboxes.contacts import Contact
from flowforge.engines.sandboxes.proxy import Attempt, Bounds, Proxy, Route
from flowforge.engines.sandboxes.sandbox import Provider
from flowforge.rules.jobs.spec import SandboxChoice
from tests.engines.sandboxes.hosts import ROUTE, contacts_of, echo_server, routed, to_loopback

# Speaks to the proxy the environment names, as any program would.
TALK = """
import os, socket, sys, urllib.parse
proxy = urllib.parse.urlsplit(os.environ["HTTPS_PROXY"])
there = socket.create_connection((proxy.hostname, proxy.port), 5)
there.sendall(f"CONNECT {sys.argv[1]} HTTP/1.1\\r\\n\\r\\n".encode())
status = there.recv(1000).split()[1].decode()
if status == "200":
    there.sendall(b"ping")
    status += " " + there.recv(100).decode()
print(status)
"""
METADATA = """
import socket
try:
    socket.create_connection(("169.254.169.254", 80), 3)
except OSError:
    print("unreachable")
"""


UNBOUND = Bounds()


@contextlib.asynccontextmanager
async def proxy(
    hosts: Sequence[str],
    bounds: Bounds = UNBOUND,
    route: Route = ROUTE,
) -> AsyncIterator[tuple[int, list[Attempt]]]:
    told: list[Attempt] = []
    serving = Proxy(hosts, told.append, route, bounds)

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Streamed(reader, writer)
        await serving.answer(connection)
        connection.close()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], told
    finally:
        server.close()
        await server.wait_closed()


async def say(port: int, data: bytes, then: bytes = b"") -> bytes:
    """Talk to a proxy and hear all it says."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    if then:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(then)
    writer.write_eof()
    said = await reader.read()
    writer.close()
    return said


def test_what_a_named_host_is_sent_comes_back_through_the_proxy() -> None:
    async def talk() -> tuple[bytes, list[Attempt]]:
        async with echo_server() as server, proxy([f"host.test:{server}"]) as (port, told):
            said = await say(port, b"CONNECT host.test:%d HTTP/1.1\r\n\r\n" % server, b"ping")
        return said, told

    said, told = asyncio.run(talk())
    assert said == b"ping"
    assert [(t.host, t.refusal, t.sent_bytes, t.received_bytes) for t in told] == [
        ("host.test", None, 4, 4)
    ]


@pytest.mark.parametrize(
    ("request_line", "status", "why"),
    [
        (b"CONNECT other.test:443 HTTP/1.1", b"403", "not among"),
        (b"CONNECT host.test:80 HTTP/1.1", b"403", "not among"),
        (b"CONNECT 127.0.0.1:443 HTTP/1.1", b"403", "not among"),
        (b"CONNECT 169.254.169.254:80 HTTP/1.1", b"403", "not among"),
        (b"CONNECT private.test:443 HTTP/1.1", b"403", "private network"),
        (b"CONNECT missing.test:443 HTTP/1.1", b"502", "no address"),
        (b"GET http://host.test/ HTTP/1.1", b"405", "only HTTPS"),
        (b"CONNECT host.test HTTP/1.1", b"400", "cannot be read"),
        (b"\xff\xfe\x00", b"405", "only HTTPS"),
    ],
)
def test_everything_else_is_refused_and_told(request_line: bytes, status: bytes, why: str) -> None:
    async def ask() -> tuple[bytes, list[Attempt]]:
        async with proxy(["host.test", "private.test", "missing.test"]) as (port, told):
            return await say(port, request_line + b"\r\n\r\n"), told

    said, told = asyncio.run(ask())
    assert said.split()[1] == status
    assert [why in (attempt.refusal or "") for attempt in told] == [True]


def test_a_name_that_leads_into_the_private_network_is_refused_by_default() -> None:
    route = Route(resolve=to_loopback)

    async def ask() -> bytes:
        async with proxy(["host.test"], route=route) as (port, _):
            return await say(port, b"CONNECT host.test:443 HTTP/1.1\r\n\r\n")

    assert b"private network" in asyncio.run(ask())


def test_no_more_passes_than_may() -> None:
    async def talk() -> tuple[bytes, list[Attempt]]:
        bounds = Bounds(bytes=1000)
        async with echo_server() as server, proxy([f"host.test:{server}"], bounds) as (port, told):
            head = b"CONNECT host.test:%d HTTP/1.1\r\n\r\n" % server
            with contextlib.suppress(ConnectionError):
                return await say(port, head, b"x" * 5000), told
        return b"", told

    said, told = asyncio.run(talk())
    assert len(said) <= 1000
    assert [attempt.refusal for attempt in told] == ["the job has used up what it may transfer"]


def test_a_connection_ends_when_its_time_is_up() -> None:
    async def talk() -> list[Attempt]:
        bounds = Bounds(seconds=0.2)
        async with echo_server() as server, proxy([f"host.test:{server}"], bounds) as (port, told):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"CONNECT host.test:%d HTTP/1.1\r\n\r\n" % server)
            await reader.read()
            writer.close()
        return told

    started = time.monotonic()
    assert [attempt.refusal for attempt in asyncio.run(talk())] == ["it took too long"]
    assert time.monotonic() - started < 5


def test_a_sandbox_reaches_its_hosts_and_no_others(provider: Provider) -> None:
    told: list[Contact] = []

    async def work() -> list[str]:
        async with echo_server() as server:
            hosts = (f"host.test:{server}", "private.test")
            choice = SandboxChoice(memory_mb=256, disk_mb=64, egress=hosts)
            sandbox = await routed(provider).open("a-job", 1, choice)
            await sandbox.write_file("talk.py", TALK.encode())
            said = []
            for host in (f"host.test:{server}", "other.test:443", "private.test:443"):
                ran = await sandbox.exec(["python3", "talk.py", host], timeout_seconds=10)
                said.append(ran.head.decode().strip())
            ran = await sandbox.exec(["python3", "-c", METADATA], timeout_seconds=10)
            said.append(ran.head.decode().strip())
            told.extend(await contacts_of(sandbox, 3))
            assert sandbox.contacts() == []
            await sandbox.close()
        return said

    assert asyncio.run(work()) == ["200 ping", "403", "403", "unreachable"]
    assert [(t.host.partition(":")[0], t.times, t.received_bytes > 0) for t in told] == [
        ("host.test", 1, True),
        ("other.test", 1, False),
        ("private.test", 1, False),
    ]
    assert "is not among the hosts of this job" in (told[1].refusal or "")
