"""A Redis is named once; its password goes nowhere else."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Command
from tests.ports import free_port


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    """The URL of a Redis that wants a password."""
    if shutil.which("redis-server") is None:
        pytest.skip("Redis is not here: apt install redis-server redis-tools")
    port, log = free_port(), tmp_path / "log"
    command = ["redis-server", "--bind", "127.0.0.1", "--port", str(port), "--save", ""]
    with log.open("wb") as said:
        process = subprocess.Popen(
            [*command, "--requirepass", "s3cret-word"], stdout=said, cwd=tmp_path
        )
    try:
        deadline = time.monotonic() + 20
        while "eady to accept connections" not in log.read_text():
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.02)
        yield f"redis://:s3cret-word@127.0.0.1:{port}/0"
    finally:
        process.kill()
        process.wait()


@pytest.mark.slow
def test_a_redis_is_tried_saved_listed_tested_and_removed(connected: Command, url: str) -> None:
    added = connected("redis", "add", "cache", stdin=url + "\n")
    assert added.code == 0, added.err
    assert "flowforge redis backup cache" in added.out
    listed = connected("redis", "list", "--json").json["caches"]
    assert [one["name"] for one in listed] == ["cache"]
    tested = connected("redis", "test", "cache", "--json").json
    assert (tested["ok"], tested["keys"]) == (True, 0)
    removed = connected("redis", "remove", "cache")
    assert removed.code == 0
    for said in (added, removed):
        assert "s3cret" not in said.out + said.err


def test_a_redis_that_is_not_entered_is_not_saved(connected: Command, url: str) -> None:
    wrong = connected("redis", "add", "cache", stdin=url.replace("s3cret", "wr0ng"))
    typed = connected("redis", "add", "cache", url)

    assert (wrong.code, typed.code) == (3, 3)
    assert "does not accept the user or the password" in wrong.err
    assert "on the command line" in typed.err
    assert "s3cret" not in typed.out + typed.err
    assert connected("redis", "list", "--json").json["caches"] == []
