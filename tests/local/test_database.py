from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from flowforge.engines.postgres import cluster
from flowforge.errors import Refused
from flowforge.local import database
from flowforge.local.database import OwnPostgres
from flowforge.local.state import State, StateFolder


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnPostgres]:
    folder = StateFolder(tmp_path_factory.mktemp("state") / "with a space")
    folder.prepare()
    state = State(ports={"postgres": _free_port()})
    state.socket_folder = database.make_socket_folder(folder)
    made = database.own_postgres(folder, state, folder.read_passwords())
    assert made.create()
    with (folder.logs / "postgres.log").open("wb") as log:
        process = subprocess.Popen(made.cluster.start_command(), stdout=log, stderr=log)
    try:
        address = made.cluster.address("own", made.passwords["postgres"])
        cluster.wait_until_ready(address, process)
        assert made.is_ready()
        made.furnish()
        made.furnish()
        yield made
    finally:
        pid = int((folder.postgres / "postmaster.pid").read_text().split()[0])
        subprocess.run(["kill", "-INT", str(pid)], check=True)
        process.wait(30)


def _free_port() -> int:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


@pytest.mark.parametrize("role", database.DATABASES)
def test_each_role_owns_its_database(own: OwnPostgres, role: str) -> None:
    with psycopg.connect(own.url(role)) as session:
        session.execute("CREATE TABLE mine (x int)")
        session.execute("CREATE EXTENSION pg_trgm")
        made = session.execute("SELECT to_regclass('mine')::text, similarity('a', 'a')").fetchone()
        session.rollback()
    assert made == ("mine", 1.0)


def test_no_role_enters_the_database_of_another(own: OwnPostgres) -> None:
    with pytest.raises(psycopg.OperationalError, match="permission denied"):
        psycopg.connect(own.url("shop", "prefect"))


def test_a_wrong_password_is_refused(own: OwnPostgres) -> None:
    url = own.url("shop").replace(own.passwords["shop"], "wrong")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(url)


def test_the_shop_may_make_a_database_beside_its_own(own: OwnPostgres) -> None:
    with psycopg.connect(own.url("shop"), autocommit=True) as session:
        session.execute("CREATE DATABASE beside")
        owner = session.execute(
            "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = 'beside'"
        ).fetchone()
        session.execute("DROP DATABASE beside")
    assert owner == ("shop",)


def test_what_is_there_is_not_made_again(own: OwnPostgres) -> None:
    assert not own.create()


def test_no_password_is_in_an_argument_or_a_log(own: OwnPostgres) -> None:
    seen = " ".join(own.cluster.start_command())
    seen += (own.folder.logs / "postgres.log").read_text()
    assert not any(password in seen for password in own.passwords.values())


def test_an_interrupted_creation_is_thrown_away(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path / "state")
    folder.prepare()
    (folder.path / "postgres.new").mkdir()
    (folder.path / "postgres.new" / "PG_VERSION").write_text("18\n")
    folder.postgres.mkdir()
    state = State(ports={"postgres": 1}, socket_folder=str(tmp_path))
    made = database.own_postgres(folder, state, folder.read_passwords())
    assert made.create()
    assert database.data_major(folder) == made.cluster.installation.major


def test_data_of_a_version_that_is_not_here_is_refused(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path / "state")
    folder.prepare()
    folder.postgres.mkdir()
    (folder.postgres / "PG_VERSION").write_text("9\n")
    with pytest.raises(Refused, match="PostgreSQL 9") as refused:
        database.choose_installation(folder)
    assert "FLOWFORGE_POSTGRES_BIN" in refused.value.hint


def test_a_long_path_gets_a_short_private_folder_for_its_socket(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path / ("long" * 30))
    folder.prepare()
    made = database.make_socket_folder(folder)
    assert made is not None
    try:
        assert len(made) < 60
        assert Path(made).stat().st_mode & 0o777 == 0o700
    finally:
        Path(made).rmdir()
