"""The whole platform, as a newcomer meets it: up, up again, kills of everything, down."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flowforge.local import health, processes, published, server_api
from flowforge.local.processes import Known
from flowforge.local.state import StateFolder

pytestmark = pytest.mark.slow

PARTS = {
    *("postgres", "server", "model", "worker-operations", "worker-workers"),
    *("warm-operations", "warm-workers"),
}


class Platform:
    """The command, over a state folder of its own."""

    def __init__(self, folder: StateFolder) -> None:
        self.folder = folder
        inherited = {n: os.environ[n] for n in ("PATH", "HOME", "LANG") if n in os.environ}
        self.environment = inherited | {"FLOWFORGE_STATE": str(folder.path)}

    def call(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "flowforge.cli", *words],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=240,
        )

    def up(self, *words: str) -> Any:
        done = self.call("up", "--json", *words)
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)

    def pids(self) -> dict[str, int | None]:
        run = published.read_run(self.folder.path)
        assert run is not None
        return {name: s.process.pid if s.process else None for name, s in run.parts.items()}

    def api(self) -> str:
        state = self.folder.read()
        assert state is not None
        return health.list_addresses(state.host, state)["api"]

    def start_backup(self, server: str) -> str:
        """Start a backup and wait until it is under way; return the run's id."""
        name = "deployments/name/backup-postgres/database-backup"
        _, deployment = server_api.ask(f"{self.api()}/{name}")
        url = f"{self.api()}/deployments/{deployment['id']}/create_flow_run"  # type: ignore[index]
        _, run = server_api.ask(url, {"parameters": {"server": server}})
        found = str(run["id"])  # type: ignore[index]
        _until(lambda: self.state_of(found)["type"] != "SCHEDULED")
        return found

    def state_of(self, run: str) -> Any:
        _, now = server_api.ask(f"{self.api()}/flow_runs/{run}", timeout_seconds=60)
        assert isinstance(now, dict)
        return now["state"]

    def has_begun_to(self, run: str, begin: str) -> bool:
        """Whether a step is under way or done whose name begins so."""
        question = {"flow_runs": {"id": {"any_": [run]}}}
        _, steps = server_api.ask(f"{self.api()}/task_runs/filter", question)
        assert isinstance(steps, list)
        return any(step["name"].startswith(begin) for step in steps)

    def kill(self, victims: str) -> None:
        """Kill the worker of the operations, the runs it has, or both."""
        worker, *launchers = self.tree("worker-operations")
        runs = self.tree("warm-operations")[1:]
        if victims.endswith("and run"):
            processes.send(worker, signal.SIGSTOP)  # or it could still tell of the run's end
        if victims.endswith("run"):
            for known in [*runs, *(launchers if "worker" in victims else ())]:
                processes.send(known, signal.SIGKILL)
        if victims.startswith("worker"):
            processes.send(worker, signal.SIGKILL)

    def tree(self, part: str) -> list[Known]:
        """The process of a part, and below it what that has started."""
        run = published.read_run(self.folder.path)
        assert run is not None
        top = run.parts[part].process
        return processes.with_descendants([top] if top else [])

    def everything(self) -> list[Known]:
        run = published.read_run(self.folder.path)
        assert run is not None
        marked = processes.find_marked(processes.folder_mark(self.folder.path))
        return processes.with_descendants([run.supervisor, *marked])

    def is_well(self) -> bool:
        return health.look(self.folder).is_running


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    made = Platform(StateFolder(tmp_path_factory.mktemp("local") / "a state"))
    made.up()
    yield made
    done = made.call("down", "--forget")
    assert done.returncode == 0, done.stderr
    assert not made.folder.path.exists()


def _until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_the_tour_proves_what_it_did(platform: Platform) -> None:
    tour = platform.up()["tour"]
    assert [row["operation"] for row in tour["rows"]] == ["backup", "backup", "restore", "job"]
    assert not tour["failed"]
    assert "proven L3" in tour["rows"][0]["evidence"]


def test_a_second_up_reuses_what_runs(platform: Platform) -> None:
    before = platform.pids()
    began = time.monotonic()
    again = platform.up()
    assert time.monotonic() - began < 8
    assert not again["started"]
    assert platform.pids() == before


def test_it_idles_in_less_than_a_gigabyte(platform: Platform) -> None:
    run = published.read_run(platform.folder.path)
    assert run is not None
    assert set(run.parts) == PARTS
    assert health.memory_mb(run.supervisor) < 1000


@pytest.mark.parametrize("part", sorted(PARTS))
def test_a_part_that_is_killed_comes_back(platform: Platform, part: str) -> None:
    before = platform.pids()[part]
    assert before is not None
    os.kill(before, signal.SIGKILL)
    _until(lambda: platform.pids()[part] not in (None, before) and platform.is_well())


def test_an_up_after_the_supervisor_was_killed_finds_no_orphan_and_starts(
    platform: Platform,
) -> None:
    everything = platform.everything()
    run = published.read_run(platform.folder.path)
    assert run is not None
    os.kill(run.supervisor.pid, signal.SIGKILL)
    _until(lambda: not any(map(processes.is_alive, everything)), 20)
    assert platform.up("--no-tour")["started"]
    assert platform.is_well()


def test_a_run_whose_platform_was_killed_is_marked_crashed_with_a_hint(platform: Platform) -> None:
    platform.up("--no-tour")
    run = platform.start_backup("platform")
    everything = platform.everything()
    for known in everything:
        processes.send(known, signal.SIGKILL)
    _until(lambda: not any(map(processes.is_alive, everything)), 20)
    platform.up("--no-tour")
    _until(lambda: platform.state_of(run)["type"] == "CRASHED", 30)
    assert " Hint: Nothing is half done; run it again" in platform.state_of(run)["message"]


@pytest.mark.parametrize("at", ["", "dump", "restore"])
def test_a_run_completes_although_its_server_is_killed_meanwhile(
    platform: Platform, at: str
) -> None:
    platform.up("--no-tour")
    run = platform.start_backup("shop")
    _until(lambda: not at or platform.has_begun_to(run, at))
    server = platform.pids()["server"]
    assert server is not None
    os.kill(server, signal.SIGKILL)
    _until(lambda: platform.state_of(run)["type"] not in ("PENDING", "RUNNING"), 180)
    assert platform.state_of(run)["type"] == "COMPLETED", platform.state_of(run)
    assert platform.pids()["server"] not in (None, server)


@pytest.mark.parametrize("victims", ["worker", "run", "worker and run", "worker at once"])
def test_a_run_that_is_killed_in_any_way_is_crashed_within_half_a_minute_with_a_hint(
    platform: Platform, victims: str
) -> None:
    platform.up("--no-tour")
    run = platform.start_backup("shop")
    if victims != "worker at once":
        _until(lambda: platform.has_begun_to(run, "dump"))
    platform.kill(victims)
    _until(lambda: platform.state_of(run)["type"] not in ("PENDING", "RUNNING"), 30)
    state = platform.state_of(run)
    assert state["type"] == "CRASHED"
    assert f"`prefect flow-run retry {run}`" in state["message"].partition(" Hint: ")[2]
    _until(platform.is_well)


def test_a_run_goes_on_when_the_process_it_was_forked_from_is_killed(platform: Platform) -> None:
    platform.up("--no-tour")
    run = platform.start_backup("shop")
    _until(lambda: platform.has_begun_to(run, "dump"))
    server = platform.pids()["warm-operations"]
    assert server is not None
    os.kill(server, signal.SIGKILL)
    _until(lambda: platform.state_of(run)["type"] not in ("PENDING", "RUNNING"), 180)
    assert platform.state_of(run)["type"] == "COMPLETED"


def test_an_interrupted_up_leaves_nothing(platform: Platform) -> None:
    assert platform.call("down").returncode == 0
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        starting = subprocess.Popen(
            [sys.executable, "-m", "flowforge.cli", "up", "--no-tour"],
            env=platform.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

        def serves() -> bool:
            run = published.read_run(platform.folder.path)
            return run is not None and "server" in run.parts

        _until(serves)
        everything = platform.everything()
        starting.send_signal(number)
        assert starting.wait(60) != 0
        _until(lambda seen=everything: not any(map(processes.is_alive, seen)))  # type: ignore[misc]


def test_down_and_up_keep_data_and_ports(platform: Platform) -> None:
    before = platform.up("--no-tour")
    copies = sorted(platform.folder.backups.rglob("*.sql.gz"))
    assert platform.call("down").returncode == 0
    assert not processes.find_marked(processes.folder_mark(platform.folder.path))
    after = platform.up("--no-tour")
    assert after["addresses"] == before["addresses"]
    assert copies
    assert sorted(platform.folder.backups.rglob("*.sql.gz")) == copies
    database = server_api.ask(before["addresses"]["api"].removesuffix("/api") + "/ff/v1/status")[1]
    assert isinstance(database, dict)
    assert database["databases"]


def test_the_server_asks_the_model_of_the_workers_before_it_takes_a_job(
    platform: Platform,
) -> None:
    done = platform.call("job", "run", "x", "--model", "claude-3-opus-20240229", "--no-wait")
    assert done.returncode == 3
    assert "was retired on 2026-01-05" in done.stderr


def test_nothing_secret_is_in_arguments_or_logs(platform: Platform) -> None:
    platform.up("--no-tour")
    passwords = platform.folder.read_passwords().values()
    for known in platform.everything():
        seen = Path(f"/proc/{known.pid}/cmdline").read_bytes()
        assert not any(password.encode() in seen for password in passwords)
    for log in platform.folder.logs.iterdir():
        text = log.read_text(errors="replace")
        assert not any(password in text for password in passwords), log


def test_status_says_how_it_is(platform: Platform) -> None:
    platform.up("--no-tour")
    done = platform.call("status", "--json")
    assert done.returncode == 0
    assert {part["name"] for part in json.loads(done.stdout)["parts"]} == PARTS
