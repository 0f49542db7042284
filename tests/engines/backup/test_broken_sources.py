"""Whatever happens to the server while it is copied: a whole copy or none, by either engine."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

from flowforge.engines.backup.dumping import dump, relations, tablelocks
from flowforge.engines.backup.dumping.dump import Engine
from flowforge.engines.backup.proving import examining
from flowforge.engines.backup.shelf import catalogue
from flowforge.engines.backup.stores.folder import FolderStore
from flowforge.engines.backup.stores.store import Upload
from flowforge.engines.postgres import connection
from flowforge.engines.postgres.cluster import Cluster, wait_until_ready
from flowforge.engines.postgres.installations import Installation
from flowforge.errors import Refused, Unavailable
from flowforge.rules import names
from flowforge.rules.addresses import PostgresAddress
from tests.engines.backup.oracle import Database, copied_by, psql, unpacked
from tests.engines.conftest import installation_of

ROWS = (
    "CREATE TABLE t AS SELECT g AS id, md5(g::text) || md5((-g)::text) AS v"
    " FROM generate_series(1, {}) g"
)
BOTH = pytest.mark.parametrize(
    "engine", ["members", pytest.param("pg_dump", marks=pytest.mark.slow)]
)


class ActingStore(FolderStore):
    """A folder beside which something happens once, in the middle of an object; slow afterwards."""

    def __init__(self, folder: Path, act: Callable[[], object], *, pause: float = 0.0) -> None:
        super().__init__("backups", folder)
        self._act, self._pause = act, pause
        self.acted_at = 0.0

    @contextlib.contextmanager
    def upload(  # type: ignore[override]  # a protocol to whoever writes
        self, key: str, *, expected_bytes: int = 0
    ) -> Iterator[Upload]:
        with super().upload(key, expected_bytes=expected_bytes) as upload:
            yield _Watched(upload, self)

    def see(self, sent: int) -> None:
        """Act behind the first megabyte."""
        if self.acted_at:
            threading.Event().wait(self._pause)
        elif sent > 1_000_000:
            self.acted_at = time.monotonic()
            self._act()


class _Watched:
    def __init__(self, upload: Upload, store: ActingStore) -> None:
        self._upload, self._store, self._sent = upload, store, 0
        self.commit = upload.commit

    def write(self, chunk: bytes) -> None:
        self._upload.write(chunk)
        self._sent += len(chunk)
        self._store.see(self._sent)


def end_sessions(address: PostgresAddress, condition: str) -> None:
    with connection.connect(address, "postgres") as session:
        ended = session.execute(
            b"SELECT pg_terminate_backend(pid) FROM pg_stat_activity a WHERE datname = 'app' AND "
            + condition.encode()
        ).fetchall()
    assert ended


def assert_nothing_was_kept(store: FolderStore) -> None:
    assert [path for path in store.folder.rglob("*") if path.is_file()] == []


SENDS_ROWS = "state = 'active' AND query LIKE 'COPY %'"
HOLDS_SNAPSHOT = "EXISTS (SELECT FROM pg_locks l WHERE l.pid = a.pid AND locktype = 'advisory')"


@BOTH
@pytest.mark.parametrize(
    "condition",
    [SENDS_ROWS, HOLDS_SNAPSHOT],
    ids=["the one that sends rows", "the one that holds the snapshot"],
)
def test_a_session_ended_in_mid_table_stops_all_within_seconds_and_leaves_no_copy(
    database: Database, tmp_path: Path, engine: Engine, condition: str
) -> None:
    source = database(ROWS.format(900_000))
    store = ActingStore(tmp_path, lambda: end_sessions(source, condition), pause=0.5)
    with pytest.raises(Unavailable) as failure:
        dump.take_copy(source, "app", store, engine=engine)
    assert time.monotonic() - store.acted_at < 10
    assert "run" in failure.value.hint.lower()
    assert_nothing_was_kept(store)
    with connection.connect(source) as session:
        others = session.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = 'app'"
            " AND pid <> pg_backend_pid() AND application_name IN ('flowforge', 'pg_dump')"
            " AND state = 'active' AND query LIKE 'COPY %'"
        ).fetchone()
    assert others == (0,)


@pytest.mark.parametrize(("engine", "program"), [("members", "psql"), ("pg_dump", "pg_dump")])
def test_a_killed_program_leaves_no_copy(
    database: Database, tmp_path: Path, engine: Engine, program: str
) -> None:
    source = database(ROWS.format(200_000))

    def kill() -> None:
        for child in psutil.Process().children():
            if child.name() == program:
                child.kill()

    store = ActingStore(tmp_path, kill)
    with pytest.raises(Unavailable, match="broke off"):
        dump.take_copy(source, "app", store, engine=engine)
    assert_nothing_was_kept(store)


class Restartable:
    """A server that can be killed and started again."""

    def __init__(self, installation: Installation, folder: Path, *settings: str) -> None:
        self.cluster = Cluster(
            installation,
            data=folder / "data",
            socket_folder=folder,
            settings=dict(setting.split("=") for setting in (*settings, "listen_addresses=")),
        )
        self.cluster.create()
        self.address = self.cluster.address("shop").model_copy(update={"database": "app"})
        self._process = self._start()
        with connection.connect(self.address, "postgres") as session:
            session.execute("CREATE DATABASE app")

    def _start(self) -> subprocess.Popen[bytes]:
        log = (self.cluster.data.parent / "log").open("ab")
        with log:
            process = subprocess.Popen(self.cluster.start_command(), stdout=log, stderr=log)
        wait_until_ready(self.address, process)
        return process

    @property
    def postmaster(self) -> int:
        return int((self.cluster.data / "postmaster.pid").read_text().split()[0])

    def kill(self) -> None:
        """End the server as a crash of its machine does."""
        os.kill(self.postmaster, signal.SIGKILL)

    def start_again(self) -> None:
        """Start it once what the dead one left has gone."""
        self._process.wait(timeout=30)
        deadline = time.monotonic() + 30
        while True:
            try:
                self._process = self._start()
                return
            except Unavailable:
                assert time.monotonic() < deadline

    def stop(self) -> None:
        with contextlib.suppress(ProcessLookupError):  # killed by a test that then failed
            os.kill(self.postmaster, signal.SIGINT)
        self._process.wait(timeout=30)


@pytest.fixture
def restartable() -> Iterator[Callable[..., Restartable]]:
    running: list[Restartable] = []
    with tempfile.TemporaryDirectory(prefix="ff-pg-") as folder:

        def start(*settings: str) -> Restartable:
            running.append(Restartable(installation_of(18), Path(folder), *settings))
            return running[-1]

        yield start
        for server in running:
            server.stop()


@BOTH
def test_a_server_killed_in_mid_table_leaves_no_copy_and_is_copied_when_it_is_back(
    restartable: Callable[..., Restartable], tmp_path: Path, engine: Engine
) -> None:
    server = restartable("fsync=off")
    psql(server.address, 18, (ROWS.format(200_000) + ";").encode())
    store = ActingStore(tmp_path, server.kill)
    with pytest.raises(Unavailable) as failure:
        dump.take_copy(server.address, "app", store, engine=engine)
    assert "server" in failure.value.hint
    assert_nothing_was_kept(store)
    server.start_again()
    made = dump.take_copy(server.address, "app", store, engine=engine)
    assert made.rows == 200_000
    assert examining.read_back(store, made).verdict == "proven"


@pytest.mark.slow
@BOTH
def test_more_tables_than_the_server_can_lock_are_refused_with_the_setting_to_raise(
    restartable: Callable[..., Restartable], store: FolderStore, engine: Engine
) -> None:
    server = restartable("fsync=off", "max_locks_per_transaction=10", "max_connections=10")
    for start in range(0, 1000, 50):
        tables = [f"CREATE TABLE t{n} (id int);" for n in range(start, start + 50)]
        psql(server.address, 18, "".join(tables).encode())
    with pytest.raises(Refused) as refused:
        dump.take_copy(server.address, "app", store, engine=engine)
    assert "max_locks_per_transaction" in refused.value.hint
    assert_nothing_was_kept(store)


@BOTH
def test_a_table_locked_by_somebody_is_waited_for_and_then_told(
    database: Database, store: FolderStore, monkeypatch: pytest.MonkeyPatch, engine: Engine
) -> None:
    monkeypatch.setattr(tablelocks, "WAIT_SECONDS", 1)
    source = database(ROWS.format(10))
    with connection.connect(source) as session:
        session.execute("BEGIN")
        session.execute("LOCK TABLE public.t IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(Unavailable, match="stayed locked") as told:
            dump.take_copy(source, "app", store, engine=engine)
        assert "migration" in told.value.hint
    assert_nothing_was_kept(store)


# A process of its own, so that its memory is its own.
COPY_AND_WEIGH = """
import json, resource, sys
from pathlib import Path
from flowforge.engines.backup.dumping import dump
from flowforge.engines.backup.stores.folder import FolderStore
from flowforge.rules.addresses import PostgresAddress
address = PostgresAddress.model_validate_json(sys.argv[1])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
made = dump.take_copy(address, "app", FolderStore("backups", Path(sys.argv[2])), engine=sys.argv[3])
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps([made.engine, made.rows, made.data.raw_bytes, (after - before) / 1024]))
"""


def copied_and_weighed(source: PostgresAddress, folder: Path, engine: str) -> tuple[int, float]:
    """Bytes of the copy's text, and by how many MB the copying process grew."""
    command = [sys.executable, "-c", COPY_AND_WEIGH, source.model_dump_json(), str(folder), engine]
    said = subprocess.run(command, capture_output=True, check=True, timeout=300).stdout
    used, rows, raw_bytes, grown = json.loads(said)
    assert (used, rows) == (engine, 2)
    return raw_bytes, grown


@BOTH
@pytest.mark.parametrize("megabytes", [64, pytest.param(320, marks=pytest.mark.slow)])
def test_a_row_however_large_passes_through_little_memory(
    database: Database, tmp_path: Path, engine: str, megabytes: int
) -> None:
    source = database(
        "CREATE TABLE t (id int, v text); ALTER TABLE t ALTER v SET STORAGE EXTERNAL;"
        f" INSERT INTO t VALUES (1, repeat(md5('x'), {megabytes} * 32768)), (2, 'small')"
    )
    raw_bytes, grown = copied_and_weighed(source, tmp_path, engine)
    assert raw_bytes > megabytes << 20
    assert grown < 60


@pytest.mark.slow
@BOTH
def test_a_row_whose_text_the_server_cannot_make_is_refused_and_named(
    database: Database, store: FolderStore, engine: Engine
) -> None:
    source = database(
        "CREATE TABLE t (id int, v bytea); ALTER TABLE t ALTER v SET STORAGE EXTERNAL;"
        " INSERT INTO t VALUES (1, '\\x00');"
        " INSERT INTO t SELECT 2, convert_to(repeat('x', 600000000), 'UTF8')"
    )
    with pytest.raises(Refused, match="too large") as refused:
        dump.take_copy(source, "app", store, engine=engine)
    assert "1 GB" in refused.value.hint
    if engine == "members":
        assert "public.t (0,2)" in refused.value.message
    assert_nothing_was_kept(store)


@pytest.mark.parametrize("tables", [300, pytest.param(10_000, marks=pytest.mark.slow)])
def test_a_database_of_very_many_tables_is_copied(
    database: Database, tmp_path: Path, tables: int
) -> None:
    source = database("CREATE TABLE whole (id int, v int) PARTITION BY LIST (v)")
    half = tables // 2
    for start in range(0, half, 100):
        text = "".join(
            f"CREATE TABLE t{n} (id int); INSERT INTO t{n} VALUES ({n});"
            f"CREATE TABLE p{n} PARTITION OF whole FOR VALUES IN ({n});"
            for n in range(start, min(start + 100, half))
        )
        psql(source, 18, f"BEGIN; {text} COMMIT;".encode())
    store, made = copied_by("members", source, tmp_path)
    assert (len(made.tables), made.rows) == (2 * half, half)
    assert len(made.to_json()) < 64 << 20
    assert examining.read_back(store, made).verdict == "proven"


@BOTH
def test_any_name_a_database_can_have_stays_inside_its_prefix(
    database: Database, tmp_path: Path, engine: str
) -> None:
    longest = "ÄÖÜ€漢字" * 4 + "é."  # 63 bytes, as many as a name may have
    assert len(longest.encode()) == 63
    source = database(ROWS.format(10), name=longest)
    store, made = copied_by(engine, source, tmp_path)
    assert names.parse_prefix(made.data.key) == ("shop", longest)
    (found,) = catalogue.list_copies(store, "shop", longest)
    assert (found.name, found.rows) == (made.name, 10)


def move_amounts(source: PostgresAddress, over: threading.Event) -> None:
    """Move amounts from one table to another and back; the sum of both never changes."""
    with connection.connect(source) as session, contextlib.suppress(psycopg.OperationalError):
        while not over.is_set():
            session.execute(
                "WITH taken AS (DELETE FROM public.here WHERE ctid IN (SELECT ctid FROM public.here"
                " LIMIT 20) RETURNING amount) INSERT INTO public.there SELECT amount FROM taken"
            )
            session.execute(
                "WITH taken AS (DELETE FROM public.there WHERE ctid IN (SELECT ctid FROM"
                " public.there ORDER BY random() LIMIT 10) RETURNING amount)"
                " INSERT INTO public.here SELECT amount FROM taken"
            )


@pytest.mark.parametrize("copies", [3, pytest.param(50, marks=pytest.mark.slow)])
def test_all_sessions_see_one_state_while_others_write(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, copies: int
) -> None:
    monkeypatch.setattr(relations, "PIECE_BYTES", 256 * 1024)
    source = database(
        "CREATE TABLE here (amount int, v text); CREATE TABLE there (LIKE here);"
        " INSERT INTO here SELECT g, repeat('x', 50) FROM generate_series(1, 40000) g"
    )
    over = threading.Event()
    writer = threading.Thread(target=move_amounts, args=(source, over))
    writer.start()
    try:
        for _ in range(copies):
            store, made = copied_by("members", source, tmp_path)
            text = unpacked(store, made).decode()
            amounts = [int(line.split("\t")[0]) for line in text.splitlines() if "\t" in line]
            assert sorted(amounts) == list(range(1, 40_001))
            assert all(table.counted == table.rows for table in made.tables)
    finally:
        over.set()
        writer.join(timeout=30)
