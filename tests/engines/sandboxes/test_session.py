"""A keeper that is not what it should be: the brain is not misled, and does not grow."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

import pytest

from flowforge.engines.sandboxes.contacts import Contacts
from flowforge.engines.sandboxes.inside import frames
from flowforge.engines.sandboxes.kept import Kept, Share
from flowforge.engines.sandboxes.sandbox import SandboxLost
from flowforge.engines.sandboxes.session import Session

Work = Callable[[Kept], Awaitable[object]]


async def with_keeper(answer: bytes, work: Work) -> object:
    """Do something with a sandbox whose keeper says only this, whatever is asked."""
    ours, theirs = socket.socketpair()
    reader, writer = await asyncio.open_unix_connection(sock=ours)

    async def end() -> None:
        theirs.close()

    share = Share(cpus=1, disk_bytes=1 << 20)
    kept = Kept("id", "/workspace", Session(reader, writer), share, Contacts(), end)
    theirs.sendall(frames.pack(frames.OUTPUT, 77, b"nobody asked"))
    working = asyncio.ensure_future(work(kept))
    await asyncio.get_running_loop().run_in_executor(None, theirs.recv, 1)
    theirs.sendall(answer)
    try:
        return await working
    finally:
        await kept.close()


async def run_true(kept: Kept) -> object:
    return await kept.exec(["true"], timeout_seconds=5)


async def read_little(kept: Kept) -> object:
    return await kept.read_file("x", max_bytes=10)


@pytest.mark.parametrize(
    "answer",
    [
        frames.HEADER.pack(frames.OUTPUT, 1, 1 << 31),
        frames.pack(frames.END, 1, b"not json"),
        frames.pack(frames.END, 1, b"[]"),
        frames.pack(frames.END, 1, b"{}"),
        frames.pack(frames.END, 1, b'{"status": "x", "seconds": [], "timed_out": 0}'),
    ],
)
def test_what_is_no_answer_loses_the_sandbox(answer: bytes) -> None:
    with pytest.raises(SandboxLost, match="not understood"):
        asyncio.run(with_keeper(answer, run_true))


def test_more_than_was_asked_for_loses_the_sandbox() -> None:
    with pytest.raises(SandboxLost, match="not understood"):
        asyncio.run(with_keeper(frames.pack(frames.OUTPUT, 1, b"x" * 100_000), read_little))


def test_frames_arrive_whole_however_they_are_cut() -> None:
    sent = frames.pack(frames.OUTPUT, 1, b"one") + frames.pack_values(frames.END, 2, {"a": 1})
    buffer, seen = bytearray(), []
    for at in range(len(sent)):
        buffer += sent[at : at + 1]
        seen += list(frames.unpack(buffer))
    assert seen == [(frames.OUTPUT, 1, b"one"), (frames.END, 2, b'{"a": 1}')]
    assert buffer == b""
