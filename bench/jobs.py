"""Agent jobs: FlowForge's engine beside a bare loop and mini-swe-agent, on one rehearsal model."""

from __future__ import annotations

import contextlib
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import psycopg

from bench import jobs_meter
from bench.backup import Measures, Taken, megabytes, server_seconds
from bench.jobs_contenders import END, FOLDER, OURS, Contender, contenders
from bench.jobs_meter import TURNS, Reply
from bench.report import Table, compare
from bench.stand import stop, wait_until
from flowforge import ledger
from flowforge.engines.postgres import installations
from flowforge.engines.postgres.cluster import scratch_server
from flowforge.rules.jobs.spec import DEFAULT_MODEL

ROUNDS = 2
JOBS = 50
LONG_TURNS = 200
SPANS = ((1, 20), (91, 110), (181, 200))


@dataclass
class Ground:
    """Where all of them work: the model, and the journal of ours."""

    url: str
    journal: str
    postmaster: psutil.Process
    folder: Path

    def start(self, contender: Contender, **more: object) -> list[Taken]:
        """Let a contender work, and return each line of figures it tells."""
        asked = {
            "url": self.url,
            "journal": self.journal,
            "model": DEFAULT_MODEL,
            "spawned": time.monotonic(),
            **contender.asked,
            **more,
        }
        with (self.folder / "errors.log").open("wb") as errors:
            done = subprocess.run(
                contender.command,
                input=json.dumps(asked).encode(),
                stdout=subprocess.PIPE,
                stderr=errors,
                cwd=Path(__file__).parent.parent,
                env={**os.environ, "MSWEA_GLOBAL_CONFIG_DIR": str(self.folder / "mini")},
                check=False,
            )
        if done.returncode:
            said = (self.folder / "errors.log").read_text(errors="replace")[-2000:]
            raise RuntimeError(f"{contender.name} ended with {done.returncode}: {said}")
        return [json.loads(line) for line in done.stdout.splitlines() if line.startswith(b"{")]

    def measure(self, contender: Contender) -> Taken:
        """Let a contender do all jobs at once; its figures."""
        before, sessions = server_seconds(self.postmaster), len(self.postmaster.children())
        found: Taken = {}
        for line in self.start(contender, jobs=JOBS):
            found |= line
        wait_until(lambda: len(self.postmaster.children()) <= sessions, 60)
        server = server_seconds(self.postmaster) - before
        own, everything = found["own_cpu"] / JOBS, (found["own_cpu"] + found["children_cpu"]) / JOBS
        is_ours = "statements" in found
        return {
            "job_start": 0.0,
            **found,
            "per_minute": JOBS / found["wall"] * 60,
            "per_core": 60 / own,
            "turn_cpu": own / TURNS * 1000,
            "job_cpu": everything,
            "server_cpu": server / (JOBS + 2) if is_ours else 0.0,  # two more were alone
            "statements": found.get("statements", 0.0) / JOBS / TURNS,
        }


def measure(rounds: int = ROUNDS) -> list[Table]:
    """Let everybody do the same jobs in turn, and then ours a long one."""
    with open_ground() as ground:
        who, notes = contenders(ground.folder)
        taken: dict[str, list[Taken]] = {contender.name: [] for contender in who}
        for turn in range(rounds):
            for position in range(len(who)):
                contender = who[(turn + position) % len(who)]
                taken[contender.name].append(ground.measure(contender))
        tables = []
        for ours, other in ((OURS, FOLDER), (FOLDER, OURS)):
            if ours in taken:
                chosen = {name: found for name, found in taken.items() if name != other}
                tables.append(tabulate(chosen, ours, notes))
        return [*tables, long_job(ground)]


@contextlib.contextmanager
def open_ground() -> Iterator[Ground]:
    """A rehearsal model in a process of its own, and a PostgreSQL that waits for its disk."""
    with (
        tempfile.TemporaryDirectory(prefix="ff-bench-") as name,
        scratch_server(installations.newest_server()) as address,
        rehearsal() as url,
    ):
        where = {"host": address.host, "port": address.port, "user": address.user}
        with psycopg.connect(**where, autocommit=True) as session:  # type: ignore[arg-type]
            session.execute("CREATE DATABASE journal")
            session.execute("ALTER SYSTEM SET fsync = on")
            session.execute("ALTER SYSTEM SET synchronous_commit = on")
            session.execute("SELECT pg_reload_conf()")
            postmaster = psutil.Process(session.info.backend_pid).parent()
        assert postmaster is not None
        journal = f"postgresql://{address.user}@/journal?host={address.host}&port={address.port}"
        ledger.migrate(journal)
        yield Ground(url, journal, postmaster, Path(name))


@contextlib.contextmanager
def rehearsal() -> Iterator[str]:
    """The rehearsal model; its address."""
    process = subprocess.Popen(
        [sys.executable, "-m", "flowforge.twin.model", "--port", "0"],
        stderr=subprocess.PIPE,
        cwd=Path(__file__).parent.parent,
    )
    assert process.stderr is not None
    try:
        said = process.stderr.readline().decode()
        found = re.search(r"http://\S+", said)
        if found is None:
            raise RuntimeError(f"The rehearsal model does not start: {said}")
        yield found[0]
    finally:
        stop(process)
        process.stderr.close()


def tabulate(taken: dict[str, list[Taken]], ours: str, notes: list[str]) -> Table:
    """One of our ways beside the others."""
    title = f"{JOBS} agent jobs at once: {ours}"
    return compare(title, taken, ours, MEASURES, [*NOTES, *notes], WHAT)


def long_job(ground: Ground) -> Table:
    """What the journal costs as a job grows long."""
    turns: list[Reply] = [
        {
            "text": f"Step {n}.",
            "tools": [{"bash": f"echo {n} >> numbers.txt; tail -n 40 numbers.txt"}],
        }
        for n in range(1, LONG_TURNS)
    ]
    prompt = jobs_meter.scripted([*turns, END])
    ours = Contender(OURS, [sys.executable, "-m", "bench.jobs_ours"], {"prompt": prompt})
    commits = count_commits(ground)
    found = ground.start(ours, turns=LONG_TURNS, sandbox="folder")
    a_turn = (count_commits(ground) - commits) / LONG_TURNS
    rows = []
    for first, last in SPANS:
        span = found[first - 1 : last]
        journal, cpu = (
            statistics.median(one[key] for one in span) for key in ("journal_seconds", "cpu")
        )
        rows.append(
            [
                f"{first} to {last}",
                f"{journal * 1000:.1f}",
                f"{statistics.median(one['statements'] for one in span):.0f}",
                f"{cpu * 1000:.1f}",
            ]
        )
    return Table(
        title=f"The journal in a job of {LONG_TURNS} turns",
        columns=["turns", "journal, ms a turn", "statements a turn", "engine CPU, ms a turn"],
        rows=rows,
        notes=[
            f"Medians of one job that runs alone; {a_turn:.1f} transactions a turn.",
            "Journal is the time of its statements, the wait for the disk included.",
            "The engine's CPU is all of its turn: the request with all that was said before, the "
            "command, the files as a Git tree, the journal.",
        ],
    )


def count_commits(ground: Ground) -> int:
    """How many transactions the journal's database has seen."""
    with psycopg.connect(ground.journal) as session:
        row = session.execute(
            "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()"
        ).fetchone()
    assert row is not None
    return int(row[0])


MEASURES: Measures = {
    "per_core": ("jobs a minute, per core of the process", "{:,.0f}".format),
    "per_minute": ("jobs a minute, wall", "{:,.0f}".format),
    "turn_cpu": ("CPU of the process, ms a turn", "{:.1f}".format),
    "job_cpu": ("CPU with its commands, seconds a job", "{:.2f}".format),
    "server_cpu": ("PostgreSQL's CPU, seconds a job", "{:.3f}".format),
    "statements": ("journal statements a turn", "{:.1f}".format),
    "grown_bytes": (f"memory for {JOBS} jobs, MB", megabytes),
    "peak_bytes": ("peak memory of the process, MB", megabytes),
    "startup_wall": ("start to first job done, seconds", "{:.1f}".format),
    "startup_cpu": ("start to first job done, CPU seconds", "{:.1f}".format),
    "job_start": ("a later job alone: submitted to its first turn, seconds", "{:.2f}".format),
}
WHAT = (
    f"{JOBS} jobs of {TURNS} turns, four of them with a command, all at once in one process, by "
    "the same rehearsal model."
)
NOTES = [
    "FlowForge journals every turn to a PostgreSQL that waits for its disk, keeps each step's "
    "files as a Git tree, sets money aside for each call, and proves its patch; with a sandbox, "
    "commands run in namespaces of their own.",
    "The SDK's tool runner has none of this: what its process knows is gone when it dies, and its "
    "commands may do what it may.",
    "Memory is that of the process, without its commands and sandboxes.",
    "mini-swe-agent saves a file for each step, from which it cannot go on, and counts what was "
    "spent; its commands may do what it may, and its last turn has a command, too.",
]
