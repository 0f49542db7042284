from __future__ import annotations

import asyncio
import os
from pathlib import Path

import psutil
import pytest

from flowforge.engines.agent import commands
from flowforge.errors import Refused

ENV = {"PATH": os.environ["PATH"]}


def run(script: str, folder: Path, input: bytes = b"") -> tuple[int, bytes, bytes]:
    out, err = bytearray(), bytearray()
    status = asyncio.run(
        commands.run(
            ["bash", "-c", script],
            env=ENV,
            cwd=folder,
            out=out.extend,
            err=err.extend,
            input=input,
        )
    )
    return status, bytes(out), bytes(err)


def lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_command_reads_all_of_its_input_and_all_it_says_is_heard(tmp_path: Path) -> None:
    content = bytes(range(256)) * 10_000
    assert run("cat; pwd >&2; exit 3", tmp_path, content) == (3, content, f"{tmp_path}\n".encode())
    assert run("kill -TERM $$", tmp_path) == (-15, b"", b"")


def test_a_command_that_goes_on_after_its_last_word_is_waited_for(tmp_path: Path) -> None:
    script = "exec >&- 2>&-; sleep 0.2; touch done"
    assert run(script, tmp_path) == (0, b"", b"")
    assert (tmp_path / "done").exists()


def test_a_command_that_is_not_there_is_told_apart(tmp_path: Path) -> None:
    missing = commands.run(["no-such-program"], env=ENV, cwd=tmp_path, out=print, err=print)
    with pytest.raises(FileNotFoundError):
        asyncio.run(missing)


def test_who_is_cancelled_ends_the_command_and_what_it_started(tmp_path: Path) -> None:
    started: list[int] = []

    async def story() -> None:
        heard = asyncio.Event()

        def take(piece: bytes) -> None:
            started.extend(int(number) for number in piece.split())
            heard.set()

        script = "sleep 600 & echo $! $$; wait"
        running = asyncio.create_task(
            commands.run(["bash", "-c", script], env=ENV, cwd=tmp_path, out=take, err=take)
        )
        await heard.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert len(started) == 2
        async with asyncio.timeout(30):
            while any(lives(pid) for pid in started):
                await asyncio.sleep(0.02)

    asyncio.run(story())


def test_who_cannot_take_more_ends_the_command(tmp_path: Path) -> None:
    def take(piece: bytes) -> None:
        raise Refused("enough", hint="stop")

    endless = commands.run(["yes"], env=ENV, cwd=tmp_path, out=take, err=take)
    with pytest.raises(Refused, match="enough"):
        asyncio.run(endless)
