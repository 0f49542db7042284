"""FlowForge's copy beside `pg_dump | gzip` and `pg_dump -Fc`, of one database, in turn."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
from pydantic import SecretStr

from bench import database
from bench.report import Table
from bench.sampling import Sampler, folder_bytes
from bench.stand import wait_until
from flowforge.engines.postgres import installations
from flowforge.engines.postgres.cluster import scratch_server
from flowforge.rules.addresses import PostgresAddress

ROUNDS = 3
NAME = "bench"
OURS = "FlowForge"
MEASURES: dict[str, tuple[str, Callable[[float], str]]] = {
    "wall": ("wall, seconds", "{:.1f}".format),
    "cpu": ("client CPU, seconds", "{:.1f}".format),
    "server_cpu": ("server CPU, seconds", "{:.1f}".format),
    "memory": ("peak memory, MB", lambda value: f"{value / 1e6:.0f}"),
    "temporary": ("temp files, MB", lambda value: f"{value / 1e6:.0f}"),
    "stored": ("stored, MB", lambda value: f"{value / 1e6:.1f}"),
}


@dataclass(frozen=True)
class Bench:
    """The database and the programs of one comparison."""

    address: PostgresAddress
    folder: Path
    postmaster: psutil.Process
    pg_dump: str

    def take(self, contender: str) -> dict[str, float]:
        """Let one contender copy the database into an empty folder."""
        store, temporary = self.folder / "store", self.folder / "tmp"
        for path in (store, temporary):
            path.mkdir()
        try:
            sessions = len(self.postmaster.children())
            before = server_seconds(self.postmaster)
            taken = self._run(self._command(contender, store), store, temporary)
            wait_until(lambda: len(self.postmaster.children()) <= sessions, 60)
            taken["server_cpu"] = server_seconds(self.postmaster) - before
            taken["stored"] = float(folder_bytes(store))
            return taken
        finally:
            shutil.rmtree(store)
            shutil.rmtree(temporary)

    def _command(self, contender: str, store: Path) -> list[str]:
        if contender == OURS:
            return [sys.executable, "-m", "bench.copy_once"]
        where = ["-h", self.address.host, "-p", str(self.address.port), "-U", self.address.user]
        dump = [self.pg_dump, *where, "--no-password", NAME]
        if contender == "pg_dump -Fc":
            return [*dump, "-Fc", "-f", str(store / "copy.dump")]
        return ["sh", "-c", f"{shlex.join(dump)} | gzip > {shlex.quote(str(store / 'copy.gz'))}"]

    def _run(self, command: list[str], store: Path, temporary: Path) -> dict[str, float]:
        told = {"database": NAME, "folder": str(store), "address": plain(self.address)}
        began = time.monotonic()
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "TMPDIR": str(temporary)},
            cwd=Path(__file__).parent.parent,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        with Sampler([process.pid], folder=temporary) as sampler:
            process.stdin.write(json.dumps(told).encode())
            process.stdin.close()
            said = process.stdout.read()
            _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        process.stdout.close()
        if process.returncode:
            raise RuntimeError(f"{command[0]} ended with {process.returncode}")
        own = json.loads(said) if said else {}
        return {
            "wall": own.get("wall_seconds", time.monotonic() - began),
            "cpu": own.get("cpu_seconds", used.ru_utime + used.ru_stime),
            "memory": float(sampler.peak_memory_bytes),
            "temporary": float(sampler.peak_folder_bytes),
        }


def measure(size_bytes: int, rounds: int = ROUNDS) -> Table:
    """Let all copy the same database in turn and compare."""
    server = next(i for i in installations.find_installations() if i.has_server)
    contenders = [OURS, *(["pg_dump | gzip"] if shutil.which("gzip") else []), "pg_dump -Fc"]
    with (
        tempfile.TemporaryDirectory(prefix="ff-bench-") as name,
        scratch_server(server) as address,
    ):
        held, rows = database.make(address, NAME, size_bytes)
        with database.connect(address, NAME) as connection:
            postmaster = psutil.Process(connection.info.backend_pid).parent()
        assert postmaster is not None
        pg_dump = installations.for_server(server.major).program("pg_dump")
        bench = Bench(address, Path(name), postmaster, pg_dump)
        bench.take(contenders[-1])  # so that all find the database in memory
        taken: dict[str, list[dict[str, float]]] = {contender: [] for contender in contenders}
        for turn in range(rounds):
            for position in range(len(contenders)):
                contender = contenders[(turn + position) % len(contenders)]
                taken[contender].append(bench.take(contender))
    return tabulate(taken, rounds, f"{held / 1e6:,.0f} MB, {rows:,} rows, {server.version}")


def plain(address: PostgresAddress) -> dict[str, object]:
    """The address with its password readable, for a pipe."""
    return {
        **address.model_dump(mode="json"),
        "password": SecretStr.get_secret_value(address.password),
    }


def server_seconds(postmaster: psutil.Process) -> float:
    """CPU of PostgreSQL and of the sessions it has seen end."""
    times = postmaster.cpu_times()
    return float(times.user + times.system + times.children_user + times.children_system)


def tabulate(taken: dict[str, list[dict[str, float]]], rounds: int, what: str) -> Table:
    """Medians of each, and the medians of the ratios within a round."""
    others = [contender for contender in taken if contender != OURS]
    rows = []
    for measure_, (title, show) in MEASURES.items():
        row = [title, *(show(middle(taken[contender], measure_)) for contender in taken)]
        for other in others:
            pairs = zip(taken[OURS], taken[other], strict=True)
            ratios = [a[measure_] / b[measure_] for a, b in pairs if b[measure_]]
            row.append(f"{statistics.median(ratios):.2f}" if ratios else "-")
        rows.append(row)
    if "pg_dump | gzip" not in taken:
        rows.append(["pg_dump | gzip: not measured, gzip is not here", *[""] * (len(rows[0]) - 1)])
    return Table(
        title="A copy: FlowForge beside pg_dump",
        columns=["median", *taken, *(f"to {other}" for other in others)],
        rows=rows,
        notes=[
            f"One generated database: {what}. {rounds} copies each, in turn.",
            "`to X` is FlowForge divided by X: the median of the ratios within a round.",
            "FlowForge's copy is also hashed, its rows counted and digested table by table, "
            "and flushed to the disk; the others are not.",
            "Its wall and CPU are without the imports of its process, its memory is with them.",
        ],
    )


def middle(taken: list[dict[str, float]], measure_: str) -> float:
    """The median of one measure."""
    return statistics.median(found[measure_] for found in taken)
