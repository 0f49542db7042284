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
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
from pydantic import SecretStr

from bench import contenders, database, physical
from bench.contenders import NAME, OURS, TARGET, Contender, Ground
from bench.report import Table, compare
from bench.sampling import Sampler
from bench.shelves import FolderShelf, Shelf, open_bucket
from bench.stand import wait_until
from flowforge.engines.postgres import installations
from flowforge.engines.postgres.cluster import scratch_server
from flowforge.engines.postgres.installations import Installation
from flowforge.rules.values import Value

ROUNDS = 5
BUCKET_ROUNDS = 3  # moto is slow
_AS_INSTALLED = {"listen_addresses": ""}  # all else as PostgreSQL comes
Taken = dict[str, float]


@dataclass
class Bench:
    """The database all contenders copy, and what each took."""

    ground: Ground
    postmaster: psutil.Process
    held: str
    """What the database is, in words."""

    shelves: tuple[Shelf, ...]

    def copy(self, contender: Contender) -> Taken:
        """Let one contender copy the database into its empty corner of the shelf."""
        self.ground.shelf.empty(contender.corner)
        emptied(self.ground.temporary)
        taken = self._run(contender, contender.copy(self.ground))
        taken["stored"] = float(self.ground.shelf.size_bytes(contender.corner))
        return taken

    def restore(self, contender: Contender) -> Taken:
        """Let one contender bring its last copy back into an empty database."""
        assert contender.restore is not None
        emptied(self.ground.temporary)
        with database.connect(self.ground.address, "postgres") as session:
            session.execute(f"DROP DATABASE IF EXISTS {TARGET} WITH (FORCE)")
            session.execute(f"CREATE DATABASE {TARGET} TEMPLATE template0")
            session.execute("CHECKPOINT")
        taken = self._run(contender, contender.restore(self.ground))
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

    def _run(self, contender: Contender, command: list[str]) -> Taken:
        sessions, shelf = len(self.postmaster.children()), self.ground.shelf
        before = server_seconds(self.postmaster)
        store = plain(shelf.address(contender.corner))
        told = {"store": store, "address": plain(self.ground.address)}
        began = time.monotonic()
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **shelf.environment, "TMPDIR": str(self.ground.temporary)},
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
        scratch_server(server, Path(name), _AS_INSTALLED) as address,
        open_bucket(Path(name)) as bucket,
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
            shelf=bucket,
            temporary=Path(name) / "tmp",
        )
        what = (
            f"One generated database: {held / 1e6:,.0f} MB, {rows:,} rows, "
            f"PostgreSQL {server.version} with the settings it comes with."
        )
        yield Bench(ground, postmaster, what, (bucket, FolderShelf(Path(name) / "store")))


def measure(size_bytes: int, rounds: int = ROUNDS) -> list[Table]:
    """Copy and restore one database with every contender in turn, and compare."""
    tables = []
    server = shared_server()
    with open_bench(size_bytes, server) as bench:
        for shelf in bench.shelves:
            if shelf.lacking is not None:
                print(f"Not measured with {shelf.title}: {shelf.lacking}")
                continue
            bench.ground = replace(bench.ground, shelf=shelf)
            who = contenders_with(shelf, server)
            turns = rounds if shelf.is_local else min(rounds, BUCKET_ROUNDS)
            copies, restores = take_turns(bench, who, turns), bring_back(bench, who, turns)
            lacking = [f"Not there: {c.name}, as {c.lacking}." for c in who if c.lacking]
            into, back = f"A copy into {shelf.title}", f"A restore from {shelf.title}"
            notes = [*COPY_NOTES, *lacking]
            tables += [
                compare(into, copies, OURS, COPY_MEASURES, notes, bench.held),
                compare(back, restores, OURS, RESTORE_MEASURES, RESTORE_NOTES, bench.held),
            ]
    return tables


def shared_server() -> Installation:
    """The newest server that all contenders can read, or else the newest."""
    servers = [found for found in installations.find_installations() if found.has_server]
    shared = [found for found in servers if found.major <= physical.NEWEST_MAJOR]
    return (shared or servers)[0]


def contenders_with(shelf: Shelf, server: Installation) -> list[Contender]:
    """Who is measured with a shelf; ourselves first."""
    parallel = [contenders.directory_format(level) for level in ("1", "0")]
    who = [contenders.ours(), *parallel]
    if not shelf.is_local:
        return [*who, physical.barman(server)]
    # These take as long as their gzip does, whatever comes after it.
    return [*who, contenders.custom_format(), contenders.piped(), physical.pgbackrest(server)]


def take_turns(bench: Bench, who: Sequence[Contender], rounds: int) -> dict[str, list[Taken]]:
    """Let everybody copy in turn."""
    here = [contender for contender in who if contender.lacking is None]
    bench.copy(here[1])  # so that all find the database in memory
    taken: dict[str, list[Taken]] = {contender.name: [] for contender in here}
    for turn in range(rounds):
        for position in range(len(here)):
            contender = here[(turn + position) % len(here)]
            taken[contender.name].append(bench.copy(contender))
    return taken


def bring_back(bench: Bench, who: Sequence[Contender], rounds: int) -> dict[str, list[Taken]]:
    """Let everybody restore its own last copy in turn."""
    here = [contender for contender in who if contender.lacking is None and contender.restore]
    taken: dict[str, list[Taken]] = {contender.name: [] for contender in here}
    for turn in range(rounds):
        for position in range(len(here)):
            contender = here[(turn + position) % len(here)]
            taken[contender.name].append(bench.restore(contender))
    return taken


def emptied(folder: Path) -> None:
    """Make a folder anew."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()


def plain(address: Value) -> dict[str, object]:
    """An address with its secrets readable, for a pipe."""
    secrets = {
        name: value.get_secret_value() for name, value in address if isinstance(value, SecretStr)
    }
    return {**address.model_dump(mode="json"), **secrets}


def server_seconds(postmaster: psutil.Process) -> float:
    """CPU of PostgreSQL: of the sessions it has seen end, and of its processes that live."""
    used = postmaster.cpu_times()
    seconds = used.children_user + used.children_system
    for process in [postmaster, *postmaster.children()]:
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            seconds += times.user + times.system
    return float(seconds)


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
    "`pg_dump -Fd` writes to a temporary folder first; `rclone` brings that to the bucket, `cp` "
    "and a flush to the folder.",
    "FlowForge's copy is also hashed and its rows digested table by table.",
    "pgBackRest and barman copy the files of all databases of the server, and need its log, too.",
    _OWN,
]
RESTORE_NOTES = [
    "Into an empty database of the same server; every index and constraint is made; `-Fd` is "
    "first fetched to a temporary folder.",
    _OWN,
]
