from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from flowforge.engines.postgres import installations
from flowforge.engines.postgres.cluster import scratch_server
from flowforge.engines.postgres.connection import connect
from flowforge.errors import Refused

HOLD = """
import sys
from flowforge.engines.postgres import installations
from flowforge.engines.postgres.cluster import scratch_server
with scratch_server(installations.newest_server()) as address:
    print(address.host, flush=True)
    sys.stdin.read()
"""


def servers_of(folder: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if any(folder in word for word in process.info["cmdline"] or []):
            found.append(process)
    return found


def test_a_scratch_server_is_gone_with_its_folder_when_the_block_ends() -> None:
    with scratch_server(installations.newest_server()) as address:
        with connect(address, "postgres") as session:
            assert session.execute("SELECT 1").fetchone() == (1,)
        assert servers_of(address.host)
    assert servers_of(address.host) == []
    assert not Path(address.host).exists()


@pytest.mark.parametrize("whole_group", [False, True], ids=["the asker", "its whole group"])
def test_a_scratch_server_is_gone_when_its_asker_is_killed(whole_group: bool) -> None:
    asker = subprocess.Popen(
        [sys.executable, "-c", HOLD],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert asker.stdout is not None and asker.stdin is not None
    folder = asker.stdout.readline().strip()
    assert servers_of(folder)
    if whole_group:
        os.killpg(asker.pid, signal.SIGKILL)
    else:
        asker.kill()
    asker.communicate()
    deadline = time.monotonic() + 20
    while servers_of(folder) or Path(folder).exists():
        assert time.monotonic() < deadline, "the server outlived who asked for it"
        time.sleep(0.05)


def test_the_oldest_tools_that_fit_are_chosen_and_none_that_do_not() -> None:
    newest = max(i.major for i in installations.find_installations())
    assert installations.for_server(newest).major == newest
    assert installations.for_server(13).major == min(
        i.major for i in installations.find_installations() if i.major >= 13
    )
    with pytest.raises(Refused, match=f"PostgreSQL {newest + 1}; the newest tools found") as told:
        installations.for_server(newest + 1)
    assert "FLOWFORGE_POSTGRES_BIN" in told.value.hint


def test_a_scratch_server_ends_in_a_background_job_where_quit_is_ignored() -> None:
    before = signal.signal(signal.SIGQUIT, signal.SIG_IGN)
    try:
        with scratch_server(installations.newest_server()) as address:
            assert servers_of(address.host)
        assert servers_of(address.host) == []
    finally:
        signal.signal(signal.SIGQUIT, before)
