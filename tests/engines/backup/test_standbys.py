"""A standby is copied like a primary, until what its primary removes ends the reading."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from flowforge.engines.backup.dumping import dump
from flowforge.engines.backup.dumping.dump import Engine
from flowforge.engines.backup.proving import proof
from flowforge.engines.backup.shelf import catalogue
from flowforge.engines.backup.stores.folder import FolderStore
from flowforge.engines.postgres import connection, identity
from flowforge.engines.postgres.cluster import Cluster, wait_until_ready
from flowforge.errors import Unavailable
from flowforge.rules.addresses import PostgresAddress
from tests.engines.backup.test_broken_sources import ROWS, ActingStore
from tests.engines.conftest import installation_of

SETTINGS = {
    "fsync": "off",
    "listen_addresses": "",
    "wal_level": "replica",
    "shared_buffers": "32MB",
    "autovacuum": "off",
    "max_standby_streaming_delay": "0",
    "hot_standby_feedback": "off",
}


@dataclass(frozen=True)
class Pair:
    """A primary and the standby that streams from it."""

    primary: PostgresAddress
    standby: PostgresAddress

    def remove_rows(self) -> None:
        """Remove rows on the primary for good; the standby follows by itself."""
        with connection.connect(self.primary) as session:
            session.execute("DELETE FROM public.t WHERE id % 2 = 0")
            session.execute("VACUUM public.t")

    def wait(self) -> None:
        """Wait until the standby has done what its primary did."""
        with connection.connect(self.primary) as session:
            row = session.execute("SELECT pg_current_wal_insert_lsn()::text").fetchone()
        assert row is not None
        condition = f"pg_last_wal_replay_lsn() >= '{row[0]}'"
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with connection.connect(self.standby, "postgres") as session:
                row = session.execute(f"SELECT {condition}".encode()).fetchone()
            if row and row[0]:
                return
            time.sleep(0.05)
        raise AssertionError("the standby does not follow")


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    installation = installation_of(18)
    who = identity.choose_identity()
    folders = [Path(tempfile.mkdtemp(prefix="ff-pair-")) for _ in range(2)]
    one, other = (Cluster(installation, f / "data", f, settings=SETTINGS) for f in folders)
    one.create()
    with running(one) as primary:
        with connection.connect(primary, "postgres") as session:
            session.execute("CREATE DATABASE app")
        who.take_over(other.socket_folder)
        base = [*who.prefix, installation.program("pg_basebackup"), "--write-recovery-conf"]
        base += ["--pgdata", str(other.data), "--checkpoint=fast", "--no-sync"]
        environment = connection.client_environment(primary, "postgres")
        subprocess.run(base, env=environment, check=True)
        with running(other) as standby:
            app = {"name": "shop", "database": "app"}
            yield Pair(primary.model_copy(update=app), standby.model_copy(update=app))
    for folder in folders:
        shutil.rmtree(folder)


@contextmanager
def running(cluster: Cluster) -> Iterator[PostgresAddress]:
    with (cluster.socket_folder / "log").open("wb") as log:
        process = subprocess.Popen(cluster.start_command(), stdout=log, stderr=log)
    address = cluster.address("shop")
    wait_until_ready(address, process)
    yield address
    os.kill(int((cluster.data / "postmaster.pid").read_text().split()[0]), signal.SIGINT)
    process.wait(timeout=30)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["members", "pg_dump"])
def test_rows_that_a_primary_removes_end_a_copy_of_its_standby_and_the_next_is_whole(
    engine: Engine, pair: Pair, tmp_path: Path
) -> None:
    with connection.connect(pair.primary) as session:
        session.execute("DROP TABLE IF EXISTS public.t")
        session.execute("SET search_path TO public")
        session.execute(ROWS.format(200_000).encode())
    pair.wait()

    cut = ActingStore(tmp_path / "cut", pair.remove_rows, pause=0.2)
    cut.folder.mkdir()
    with pytest.raises(Unavailable, match="the reading") as caught:
        dump.take_copy(pair.standby, "app", cut, engine=engine)
    assert "hot_standby_feedback = on" in caught.value.hint
    assert catalogue.list_copies(cut, "shop", "app") == []
    assert not any(file.is_file() for file in cut.folder.rglob("*"))

    pair.wait()
    store = FolderStore("backups", tmp_path / "next")
    manifest = dump.take_copy(pair.standby, "app", store, engine=engine)
    assert [(table.rows, table.counted) for table in manifest.tables] == [(100_000, 100_000)]
    assert manifest.server.is_replica
    assert proof.prove_by_restoring(store, manifest).level == 3
