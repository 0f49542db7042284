"""From trigger to Running: a warm pool beside the stock process worker, on one Prefect server."""

from __future__ import annotations

import shlex
import statistics
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

import psutil

from bench.report import Table
from bench.sampling import Sampler
from bench.stand import QUERY_SECONDS, Stand, open_stand, wait_until
from work_pools import warm

ROUNDS = 10
_FLOW = "from prefect import flow\n\n@flow\ndef nothing():\n    return 1\n"


def measure(rounds: int = ROUNDS) -> Table:
    """Start runs on both pools in turn and compare how long and how much they took."""
    with (
        tempfile.TemporaryDirectory(prefix="ff-bench-") as name,
        open_stand(Path(name)) as stand,
    ):
        folder = Path(name)
        (folder / "nothing.py").write_text(_FLOW)
        socket = folder / "state" / "warm.sock"
        launcher = str(Path(warm.__file__).with_name("launcher.py"))
        command = shlex.join([sys.executable, "-S", "-E", launcher, str(socket)])
        server = stand.start("fork", "work_pools.warm", str(socket))
        roots = {
            "stock": [stand.start_worker("stock", None).pid],
            "warm": [stand.start_worker("warm", command).pid, server.pid],
        }
        deployments = {}
        for pool in roots:
            stand.wait_for_worker(pool)
            deployments[pool] = stand.deploy("nothing", "nothing.py:nothing", pool, folder)
            start_one(stand, deployments[pool], roots[pool])  # the first one warms the disk
        taken: dict[str, list[tuple[float, float]]] = {"stock": [], "warm": []}
        for _ in range(rounds):
            for pool, found in taken.items():
                found.append(start_one(stand, deployments[pool], roots[pool]))
    return tabulate(taken, rounds)


def start_one(stand: Stand, deployment: str, roots: list[int]) -> tuple[float, float]:
    """Start a run; return its seconds from trigger to Running, and its CPU seconds."""
    before = count(roots)
    with Sampler(roots, measure_memory=False) as sampler:
        triggered = time.time()
        run = stand.run(deployment)
        stand.wait_for_state(run, "COMPLETED", seconds=120)
        wait_until(lambda: count(roots) <= before, 60)
    states = stand.http.get("/flow_run_states/", params={"flow_run_id": run}).json()
    running = next(state for state in states if state["type"] == "RUNNING")
    began = datetime.fromisoformat(running["timestamp"].replace("Z", "+00:00")).timestamp()
    return began - triggered, sampler.cpu_seconds


def count(roots: list[int]) -> int:
    """How many processes live below these."""
    return sum(len(psutil.Process(root).children(recursive=True)) for root in roots)


def tabulate(taken: dict[str, list[tuple[float, float]]], rounds: int) -> Table:
    """Medians of both, and the median of the ratios of neighbours in time."""
    rows = []
    for index, title in enumerate(("trigger to Running, seconds", "CPU seconds a run")):
        values = {pool: [found[index] for found in taken[pool]] for pool in taken}
        ratios = [w / s for w, s in zip(values["warm"], values["stock"], strict=True)]
        rows.append(
            [
                title,
                f"{statistics.median(values['warm']):.2f}",
                f"{statistics.median(values['stock']):.2f}",
                f"{statistics.median(ratios):.2f}",
            ]
        )
    return Table(
        title="Start of a run: warm beside the stock process worker",
        columns=["median", "warm", "stock worker", "warm / stock"],
        rows=rows,
        notes=[
            f"{rounds} runs each, in turn, of a flow that does nothing.",
            f"Workers ask for work every {QUERY_SECONDS:g} s, which is part of both times.",
        ],
    )
