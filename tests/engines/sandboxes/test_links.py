"""Connections out of a sandbox, carried over the one stream there is to it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator

import psutil
import pytest

from flowforge.engines.sandboxes.connections import Connection
from flowforge.engines.sandboxes.inside import frames
from flowforge.engines.sandboxes.links import Answer
from flowforge.engines.sandboxes.sandbox import Provider, Sandbox, SandboxLost
from flowforge.engines.sandboxes.session import Session
from flowforge.rules.jobs.spec import SandboxChoice
from tests.engines.sandboxes.hosts import echo_server, routed, served

MUCH = 50_000_000
CALL = """
import hashlib, socket, sys
def call(host):
    there = socket.create_connection(("127.0.0.1", 3128), 20)
    there.sendall(f"CONNECT {host} HTTP/1.1\\r\\n\\r\\n".encode())
    head = b""
    while not head.endswith(b"\\r\\n\\r\\n"):
        head += there.recv(1)
    assert b" 200 " in head, head
    return there
"""
DOWNLOAD = (
    CALL
    + """
there, size = call(sys.argv[1]), 0
while data := there.recv(65536):
    size += len(data)
print(size)
"""
)
ECHO = (
    CALL
    + """
there, back = call(sys.argv[1]), b""
sent = b"0123456789abcdef" * 10_000
there.sendall(sent)
there.shutdown(socket.SHUT_WR)
while data := there.recv(65536):
    back += data
print(back == sent)
"""
)
IDLE = (
    CALL
    + """
import time
open_ones = [call(sys.argv[1]) for _ in range(3)]
print("open", flush=True)
time.sleep(60)
"""
)


@contextlib.asynccontextmanager
async def opened(provider: Provider, port: int) -> AsyncIterator[Sandbox]:
    choice = SandboxChoice(memory_mb=256, disk_mb=64, egress=(f"host.test:{port}",))
    sandbox = await routed(provider).open("a-job", 1, choice)
    try:
        yield sandbox
    finally:
        await sandbox.close()


@contextlib.asynccontextmanager
async def source(size: int) -> AsyncIterator[int]:
    """A server that sends much to whoever calls."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            for _ in range(size // 50_000):
                writer.write(bytes(50_000))
                await writer.drain()
        writer.close()

    async with served(answer) as port:
        yield port


async def run(sandbox: Sandbox, script: str, port: int, seconds: float = 60) -> str:
    argv = ["python3", "-c", script, f"host.test:{port}"]
    return (await sandbox.exec(argv, timeout_seconds=seconds)).head.decode().strip()


def test_a_large_download_costs_the_brain_no_memory_and_delays_no_command(
    provider: Provider,
) -> None:
    process = psutil.Process()

    async def work() -> tuple[str, float, int]:
        async with source(MUCH) as port, opened(provider, port) as sandbox:
            await sandbox.write_file("warm", b"")
            before = process.memory_info().rss
            download = asyncio.create_task(run(sandbox, DOWNLOAD, port))
            slowest, most = 0.0, 0
            while not download.done():
                started = time.monotonic()
                await sandbox.read_file("warm", max_bytes=1)
                slowest = max(slowest, time.monotonic() - started)
                most = max(most, process.memory_info().rss - before)
            return await download, slowest, most

    size, slowest, most = asyncio.run(work())
    assert int(size) == MUCH
    assert slowest < 10
    assert most < 5_000_000


def test_what_is_sent_comes_back_whole_after_the_command_said_all(provider: Provider) -> None:
    async def work() -> list[str]:
        async with echo_server() as port, opened(provider, port) as sandbox:
            return [await run(sandbox, ECHO, port) for _ in range(2)]

    assert asyncio.run(work()) == ["True", "True"]


def test_connections_whose_command_does_not_read_block_no_others(provider: Provider) -> None:
    async def work() -> str:
        async with source(MUCH) as port, opened(provider, port) as sandbox:
            await sandbox.write_file("idle.py", IDLE.encode())
            host = f"host.test:{port}"
            start = f"mkfifo all; python3 idle.py {host} > all & head -1 all"
            started = await sandbox.exec(["sh", "-c", start], timeout_seconds=30)
            assert started.head == b"open\n"
            return await run(sandbox, DOWNLOAD, port)

    assert int(asyncio.run(work())) == MUCH


async def never_read(connection: Connection) -> None:
    """Serves a connection without ever reading from it."""
    await asyncio.Event().wait()


async def hear(said: bytes, answer: Answer | None) -> None:
    """Listen to a keeper that says only this."""
    ours, theirs = socket.socketpair()
    with theirs:
        session = Session(*await asyncio.open_unix_connection(sock=ours), answer)
        saying = asyncio.create_task(asyncio.to_thread(theirs.sendall, said))
        try:
            await session.ping(patience_seconds=20)
        finally:
            await session.close()
            await asyncio.gather(saying, return_exceptions=True)


OPENED = frames.pack(frames.LINK_OPENED, 1)


@pytest.mark.parametrize(
    "said",
    [
        OPENED + OPENED,
        OPENED + 5 * frames.pack(frames.LINK_DATA, 1, bytes(frames.CHUNK)),
        b"".join(frames.pack(frames.LINK_OPENED, n) for n in range(frames.MOST_LINKS + 1)),
    ],
    ids=["the same link twice", "more than its window", "more links than there may be"],
)
def test_a_keeper_that_sends_more_than_it_may_is_not_listened_to(said: bytes) -> None:
    with pytest.raises(SandboxLost, match="not understood"):
        asyncio.run(hear(said, never_read))


def test_links_of_a_sandbox_without_hosts_make_no_sense() -> None:
    with pytest.raises(SandboxLost, match="not understood"):
        asyncio.run(hear(OPENED, None))
