"""A run that starts warm behaves as one of the stock worker: how it ends, what it sees and logs."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from bench.stand import Stand, open_stand, wait_until
from work_pools import warm

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork; use Linux or macOS")

WATCHED = """
import json, os, signal, subprocess, sys, time
from pathlib import Path
from prefect import flow, get_run_logger

@flow
def watched(facts: str, action: str):
    child = subprocess.Popen(["sleep", "300"]) if action == "hang" else None
    os.umask(umask := os.umask(0o077))
    found = {
        "version": 1, "pid": os.getpid(), "cwd": os.getcwd(), "umask": umask,
        "argv": sys.argv[1:], "main": sys.modules["__main__"].__spec__.name,
        "environment": dict(os.environ), "stdin": os.fstat(0).st_mode, "tree": [os.getpid()],
        "command": Path("/proc/self/cmdline").read_text().split("\\0"),
    }
    if child:
        found["tree"].append(child.pid)
    get_run_logger().info("watched does: %s", action)
    part = Path(facts + ".part")
    part.write_text(json.dumps(found))
    part.rename(facts)
    if action == "raise":
        raise ValueError("the flow's own words")
    while action in ("wait", "hang"):
        time.sleep(0.1)
    return 1
"""


@dataclass
class Ended:
    """What is left of a run."""

    state: dict[str, Any]
    facts: dict[str, Any]
    logs: list[str]


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    with open_stand(tmp_path_factory.mktemp("stand")) as stand:
        (stand.folder / "watched.py").write_text(WATCHED)
        yield stand


@pytest.fixture(scope="module")
def deployments(stand: Stand) -> dict[str, str]:
    """A pool of each kind with a worker and a deployment; warm with its fork server."""
    stand.start("fork", "work_pools.warm", str(socket_of(stand)))
    stand.start_worker("stock", None)
    stand.start_worker("warm", command(stand))
    for pool in ("stock", "warm"):
        stand.wait_for_worker(pool)
    return {pool: deploy(stand, pool) for pool in ("stock", "warm")}


def socket_of(stand: Stand, pool: str = "warm") -> Path:
    return stand.folder / "state" / "warm" / f"{pool}.sock"


def command(stand: Stand, pool: str = "warm") -> str:
    launcher = Path(warm.__file__).with_name("launcher.py")
    return shlex.join([sys.executable, "-S", "-E", str(launcher), str(socket_of(stand, pool))])


def deploy(stand: Stand, pool: str) -> str:
    return stand.deploy("watched", "watched.py:watched", pool, stand.folder)


def start(stand: Stand, deployment: str, action: str) -> tuple[str, Path]:
    facts = stand.folder / f"facts-{os.urandom(6).hex()}"
    run = stand.run(deployment, parameters={"facts": str(facts), "action": action})
    return run, facts


def wait_for_facts(facts: Path) -> dict[str, Any]:
    wait_until(facts.exists, 90)
    found: dict[str, Any] = json.loads(facts.read_text())
    return found


def is_gone(pid: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    return True


def end(stand: Stand, run: str, facts: dict[str, Any]) -> Ended:
    state = stand.wait_for_state(run, "COMPLETED", "FAILED", "CRASHED", "CANCELLED", seconds=90)
    wait_until(lambda: all(is_gone(pid) for pid in facts["tree"]), 30)
    logs = stand.post("/logs/filter", {"logs": {"flow_run_id": {"any_": [run]}}})
    return Ended(state, facts, [line["message"] for line in logs])


def compare(stand: Stand, deployments: dict[str, str], action: str, act: Any) -> list[Ended]:
    """Start the same on both pools, do the same to both, and return how each ended."""
    runs = [start(stand, deployments[pool], action) for pool in ("stock", "warm")]
    ended = []
    for run, path in runs:
        facts = wait_for_facts(path)
        act(run, facts)
        ended.append(end(stand, run, facts))
    assert ended[1].facts["command"][1:3] == ["-m", "work_pools.warm"]
    return ended


def own_variables(ended: Ended) -> dict[str, str]:
    """What a run sees, less what Prefect notes for itself and what its resolver adds."""
    environment: dict[str, str] = ended.facts["environment"]
    return {
        name: value
        for name, value in environment.items()
        if not name.startswith("PREFECT__") and name != "PYTHONPATH"
    }


def nothing(run: str, facts: dict[str, Any]) -> None:
    """Leave the run alone."""


@pytest.mark.slow
def test_a_run_completes_in_the_same_surroundings(
    stand: Stand, deployments: dict[str, str]
) -> None:
    stock, warmed = compare(stand, deployments, "return", nothing)
    assert warmed.state["type"] == stock.state["type"] == "COMPLETED"
    for fact in ("cwd", "umask", "argv", "main", "stdin"):
        assert warmed.facts[fact] == stock.facts[fact], fact
    assert own_variables(warmed) == own_variables(stock)
    assert "watched does: return" in warmed.logs


@pytest.mark.slow
def test_a_run_that_raises_fails_with_the_same_words(
    stand: Stand, deployments: dict[str, str]
) -> None:
    stock, warmed = compare(stand, deployments, "raise", nothing)
    assert warmed.state["type"] == stock.state["type"] == "FAILED"
    assert warmed.state["message"] == stock.state["message"]
    assert "the flow's own words" in warmed.state["message"]
    assert any("Traceback" in line for line in warmed.logs)


@pytest.mark.slow
def test_a_run_is_cancelled_the_same_way(stand: Stand, deployments: dict[str, str]) -> None:
    def cancel(run: str, facts: dict[str, Any]) -> None:
        state = {"type": "CANCELLING", "name": "Cancelling"}
        stand.post(f"/flow_runs/{run}/set_state", {"state": state})

    stock, warmed = compare(stand, deployments, "wait", cancel)
    assert warmed.state["type"] == stock.state["type"] == "CANCELLED"
    assert warmed.state["message"] == stock.state["message"]


@pytest.mark.parametrize(
    "number", [pytest.param(signal.SIGTERM, marks=pytest.mark.slow), signal.SIGKILL]
)
@pytest.mark.slow
def test_a_run_that_gets_a_signal_crashes_the_same_way(
    stand: Stand, deployments: dict[str, str], number: signal.Signals
) -> None:
    stock, warmed = compare(
        stand, deployments, "wait", lambda _, facts: os.kill(facts["pid"], number)
    )
    assert warmed.state["type"] == stock.state["type"] == "CRASHED"
    assert warmed.state["message"] == stock.state["message"]


def test_an_edited_flow_is_what_the_next_run_runs(
    stand: Stand, deployments: dict[str, str]
) -> None:
    file = stand.folder / "watched.py"
    try:
        for version in (2, 3):
            file.write_text(WATCHED.replace('"version": 1', f'"version": {version}'))
            run, facts = start(stand, deployments["warm"], "return")
            assert end(stand, run, wait_for_facts(facts)).facts["version"] == version
    finally:
        file.write_text(WATCHED)


# Below, the test is the worker: it starts launchers itself.


@pytest.fixture(scope="module")
def own_server(stand: Stand) -> psutil.Process:
    return psutil.Process(
        stand.start("own-fork", "work_pools.warm", str(socket_of(stand, "o"))).pid
    )


@dataclass
class Run:
    """A run whose launcher is a child of this test, or of `parent`."""

    id: str
    parent: subprocess.Popen[bytes]
    facts: dict[str, Any]

    @property
    def keeper(self) -> psutil.Process:
        return next(p for p in psutil.Process(self.facts["pid"]).parents())


@contextlib.contextmanager
def launched(
    stand: Stand, action: str, *prefix: str, pool: str = "o", **variables: str
) -> Iterator[Run]:
    name = f"unwatched-{os.urandom(4).hex()}"
    stand.post("/work_pools/", {"name": name, "type": "process"})
    run, path = start(stand, deploy(stand, name), action)
    environment = {**stand.environment, "PREFECT__FLOW_RUN_ID": run, **variables}
    parent = subprocess.Popen(
        [*prefix, *shlex.split(command(stand, pool))],
        env=environment,
        cwd=stand.folder,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        yield Run(run, parent, wait_for_facts(path))
    finally:
        parent.kill()
        parent.communicate()


@pytest.mark.parametrize(
    "victim",
    [
        pytest.param("launcher", marks=pytest.mark.slow),
        "keeper",
        pytest.param("run", marks=pytest.mark.slow),
    ],
)
@pytest.mark.usefixtures("own_server")
def test_whatever_is_killed_nothing_of_the_run_is_left(stand: Stand, victim: str) -> None:
    with launched(stand, "hang") as run:
        pids = {"launcher": run.parent.pid, "keeper": run.keeper.pid, "run": run.facts["pid"]}
        os.kill(pids[victim], signal.SIGKILL)
        assert run.parent.wait(timeout=30) == -signal.SIGKILL
        wait_until(lambda: all(is_gone(pid) for pid in [*run.facts["tree"], *pids.values()]), 30)


@pytest.mark.usefixtures("own_server")
def test_when_the_worker_is_killed_its_run_crashes_and_ends(stand: Stand) -> None:
    worker = "import subprocess, sys; subprocess.run(sys.argv[1:])"
    with launched(stand, "wait", sys.executable, "-c", worker) as run:
        run.parent.kill()
        assert end(stand, run.id, run.facts).state["type"] == "CRASHED"


@pytest.mark.slow
def test_a_run_outlives_its_fork_server_and_the_next_one_starts_cold(stand: Stand) -> None:
    server = stand.start("brief-fork", "work_pools.warm", str(socket_of(stand, "b")))
    wait_until(socket_of(stand, "b").exists, 30)
    with launched(stand, "wait", pool="b") as run:
        server.kill()
        server.wait()
        run.parent.send_signal(signal.SIGTERM)
        assert end(stand, run.id, run.facts).state["type"] == "CRASHED"
    with launched(stand, "return", pool="b") as run:
        assert run.facts["command"][1:3] == ["-m", "prefect.engine"]
        _, complaint = run.parent.communicate(timeout=60)
        assert run.parent.returncode == 0
        assert b"starts this run cold: Connection refused" in complaint


@pytest.mark.slow
def test_a_fork_server_begins_anew_when_what_it_loaded_changed(
    stand: Stand, own_server: psutil.Process
) -> None:
    file = Path(warm.__file__)
    with launched(stand, "return") as run:
        assert run.facts["command"][1:3] == ["-m", "work_pools.warm"]
    file.chmod(file.stat().st_mode)
    with launched(stand, "return") as run:
        assert run.facts["command"][1:3] == ["-m", "prefect.engine"]
    with launched(stand, "return") as run:
        assert run.facts["command"][1:3] == ["-m", "work_pools.warm"]
    assert own_server.is_running()


@pytest.mark.usefixtures("own_server")
@pytest.mark.slow
def test_a_run_that_wants_another_interpreter_starts_cold(stand: Stand) -> None:
    with launched(stand, "return", PYTHONHASHSEED="7") as run:
        assert run.facts["command"][1:3] == ["-m", "prefect.engine"]


def test_a_fork_server_ends_with_its_owner_and_lets_nobody_else_in(tmp_path: Path) -> None:
    path = tmp_path / ("a long name " * 12) / "s.sock"
    owner = "import subprocess, sys; subprocess.run([sys.executable, '-m', *sys.argv[1:]])"
    process = subprocess.Popen([sys.executable, "-c", owner, "work_pools.warm", str(path)])
    try:
        wait_until(path.exists, 30)
        wait_until(lambda: path.stat().st_mode & 0o777 == 0o600, 30)
        assert path.parent.stat().st_mode & 0o777 == 0o700
        (server,) = psutil.Process(process.pid).children()
    finally:
        process.kill()
        process.wait()
    wait_until(lambda: is_gone(server.pid), 60)


def test_the_command_survives_a_state_folder_with_spaces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLOWFORGE_STATE", str(tmp_path / "it's a state"))
    words = shlex.split(warm.command("flowforge-workers"))
    assert words[:3] == [sys.executable, "-S", "-E"]
    assert Path(words[3]).is_file()
    assert words[4:] == [str(tmp_path / "it's a state" / "warm" / "flowforge-workers.sock")]
