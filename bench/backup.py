"""FlowForge's copies and restores beside those of public tools, of one database, in turn."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import psutil
from pydantic import SecretStr

from bench import contenders, database
from bench.contenders import NAME, OURS, TARGET, Contender, Ground
from bench.report import Table, compare
from bench.sampling import Sampler, folder_bytes
from bench.stand import wait_until
from flowforge.engines.postgres import installations
from flowforge.engines.postgres.cluster import scratch_server
from flowforge.engines.postgres.installations import Installation
from flowforge.rules.addresses import PostgresAddress

ROUNDS = 5
Taken = dict[str, float]


@dataclass
class Bench:
    """The database all contenders copy, and what each took."""

    ground: Ground
    postmaster: psutil.Process
    held: str
    """What the database is, in words."""

    taken: dict[str, list[Taken]] = field(default_factory=dict)

    def copy(self, contender: Contender) -> Taken:
        """Let one contender copy the database into an empty store."""
        emptied(self.ground.store)
        emptied(self.ground.temporary)
        taken = self._run(contender.copy(self.ground))
        taken["stored"] = float(folder_bytes(self.ground.store))
        return taken

    def restore(self, contender: Contender) -> Taken:
        """Let one contender bring its copy, already in the store, back into an empty database."""
        assert contender.restore is not None
        emptied(self.ground.temporary)
        with database.connect(self.ground.address, "postgres") as session:
            session.execute(f"DROP DATABASE IF EXISTS {TARGET} WITH (FORCE)")
            session.execute(f"CREATE DATABASE {TARGET} TEMPLATE template0")
            session.execute("CHECKPOINT")
        taken = self._run(contender.restore(self.ground))
        self._check_restored(contender)
        return taken

    def _check_restored(self, contender: Contender) -> None:
        count = "SELECT (SELECT count(*) FROM orders), (SELECT count(*) FROM pg_indexes)"
        found = []
        for name in (NAME, TARGET):
            with database.connect(self.ground.address, name) as session:
                found.append(session.execute(count).fetchone())
        if found[0] != found[1]:
            raise RuntimeError(f"{contender.name} did not restore everything: {found}")

    def _run(self, command: list[str]) -> Taken:
        sessions = len(self.postmaster.children())
        before = server_seconds(self.postmaster)
        told = {"folder": str(self.ground.store), "address": plain(self.ground.address)}
        began = time.monotonic()
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "TMPDIR": str(self.ground.temporary)},
            cwd=Path(__file__).parent.parent,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        with Sampler([process.pid], folder=self.ground.temporary) as sampler:
            with contextlib.suppress(BrokenPipeError):  # most do not listen
                process.stdin.write(json.dumps(told).encode())
                process.stdin.close()
            own: Taken = {}
            for line in process.stdout:
                own |= json.loads(line)
                if "wall_seconds" in own:
                    own.setdefault("peak", float(sampler.peak_memory_bytes))
            _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        process.stdout.close()
        if process.returncode:
            raise RuntimeError(f"{command[-1][:300]} ended with {process.returncode}")
        wall = time.monotonic() - began
        wait_until(lambda: len(self.postmaster.children()) <= sessions, 60)
        peak = own.get("peak", float(sampler.peak_memory_bytes))
        return {
            "wall": own.get("wall_seconds", wall),
            "cpu": own.get("cpu_seconds", used.ru_utime + used.ru_stime),
            "server_cpu": server_seconds(self.postmaster) - before,
            "memory": peak - own.get("own_bytes", 0.0),
            "temporary": float(sampler.peak_folder_bytes),
            "read_back": own.get("read_back_seconds", 0.0),
        }


@contextlib.contextmanager
def open_bench(size_bytes: int, server: Installation) -> Iterator[Bench]:
    """Run a server with a generated database of a size."""
    with (
        tempfile.TemporaryDirectory(prefix="ff-bench-") as name,
        scratch_server(server, Path(name)) as address,
    ):
        held, rows = database.make(address, NAME, size_bytes)
        with database.connect(address, NAME) as session:
            postmaster = psutil.Process(session.info.backend_pid).parent()
            row = session.execute("SHOW data_directory").fetchone()
        assert postmaster is not None
        assert row is not None
        ground = Ground(
            address=address,
            tools=installations.for_server(server.major),
            data=Path(row[0]),
            store=Path(name) / "store",
            temporary=Path(name) / "tmp",
        )
        what = f"{held / 1e6:,.0f} MB, {rows:,} rows, PostgreSQL {server.version}"
        yield Bench(ground, postmaster, what)


def measure(size_bytes: int, rounds: int = ROUNDS) -> list[Table]:
    """Copy and restore one database with every contender in turn, and compare."""
    servers = [i for i in installations.find_installations() if i.has_server]
    fastest = contenders.directory_format("1")
    others = [fastest, contenders.directory_format("0"), contenders.piped()]
    with open_bench(size_bytes, servers[0]) as bench:
        copies, kept = take_turns(bench, [contenders.ours(), *others], rounds)
        restores = bring_back(bench, kept, rounds)
        held = bench.held
    return [
        compare("A copy: FlowForge beside pg_dump", copies, OURS, COPY_MEASURES, COPY_NOTES, held),
        compare("A restore", restores, OURS, RESTORE_MEASURES, RESTORE_NOTES, held),
    ]


def take_turns(
    bench: Bench, who: Sequence[Contender], rounds: int
) -> tuple[dict[str, list[Taken]], dict[Path, Contender]]:
    """Let everybody copy in turn; also return where the last copy of each lies."""
    here = [contender for contender in who if contender.lacking is None]
    bench.copy(here[-1])  # so that all find the database in memory
    taken: dict[str, list[Taken]] = {contender.name: [] for contender in here}
    kept: dict[Path, Contender] = {}
    for turn in range(rounds):
        for position in range(len(here)):
            contender = here[(turn + position) % len(here)]
            taken[contender.name].append(bench.copy(contender))
            if turn == rounds - 1 and contender.restore:
                place = bench.ground.store.with_name(f"kept-{len(kept)}")
                bench.ground.store.rename(place)
                kept[place] = contender
    return taken, kept


def bring_back(bench: Bench, kept: dict[Path, Contender], rounds: int) -> dict[str, list[Taken]]:
    """Let everybody restore its own copy in turn."""
    order = sorted(kept.items(), key=lambda item: item[1].name != OURS)
    taken: dict[str, list[Taken]] = {contender.name: [] for _, contender in order}
    for turn in range(rounds):
        for position in range(len(order)):
            place, contender = order[(turn + position) % len(order)]
            bench.ground = replace(bench.ground, store=place)
            taken[contender.name].append(bench.restore(contender))
    return taken


def emptied(folder: Path) -> None:
    """Make a folder anew."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()


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


def megabytes(value: float) -> str:
    """Bytes as MB."""
    return f"{value / 1e6:.1f}"


Measures = dict[str, tuple[str, Callable[[float], str]]]
RESTORE_MEASURES: Measures = {
    "wall": ("wall, seconds", "{:.1f}".format),
    "cpu": ("client CPU, seconds", "{:.1f}".format),
    "server_cpu": ("server CPU, seconds", "{:.1f}".format),
    "memory": ("peak memory, MB", megabytes),
    "temporary": ("temp files, MB", megabytes),
}
COPY_MEASURES: Measures = {
    **RESTORE_MEASURES,
    "stored": ("stored, MB", megabytes),
    "read_back": ("read back (L1), seconds", "{:.1f}".format),
}
_OWN = (
    "FlowForge's wall and CPU are without the imports of its process, its memory is what it took "
    "above its own start, with all its children; that of the others is all of theirs."
)
COPY_NOTES = [
    "The store is a folder; `pg_dump -Fd` writes to a temporary folder first and is then copied "
    "there and flushed, as an upload would do at its fastest.",
    "FlowForge's copy is also hashed and its rows digested table by table.",
    _OWN,
]
RESTORE_NOTES = [
    "Into an empty database of the same server; every index and constraint is made; `-Fd` is "
    "first copied from the store to a temporary folder.",
    _OWN,
]
