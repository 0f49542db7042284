"""A Redis is copied and put back as flows, and what they say is recorded."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from pydantic import SecretStr

from blocks.redis import RedisServer
from blocks.storage import BackupStore
from flowforge import ledger
from flowforge.engines.redis import connection
from flowforge.errors import Refused
from flowforge.ledger import protection, queries
from flowforge.rules import names
from flowforge.rules.backups import Copy, Level
from flowforge.rules.redis_addresses import RedisAddress
from flowforge.rules.redis_restores import RedisRestorePlan
from flows.backup_redis import backup_redis


@pytest.fixture
def cache(prefect_server: None, ledger_url: str, tmp_path: Path) -> Iterator[RedisAddress]:
    """A Redis block `cache` with a few keys, and a store block `backups`."""
    if shutil.which("redis-server") is None:
        pytest.skip("Redis is not here: apt install redis-server redis-tools")
    address = RedisAddress(name="cache", host=str(tmp_path / "s"))
    command = ["redis-server", "--port", "0", "--unixsocket", address.host, "--save", ""]
    command += ["--dir", str(tmp_path), "--repl-diskless-sync-delay", "0"]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log)
    try:
        deadline = time.monotonic() + 20
        while "ready to accept" not in (tmp_path / "log").read_text():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        with connection.connect(address) as session:
            session.execute_command("SET", "a", "1")
            session.execute_command("RPUSH", "rq:queue:default", "job")
        RedisServer(url=SecretStr(f"unix://{address.host}")).save("cache", overwrite=True)
        (tmp_path / "backups").mkdir()
        BackupStore(folder=str(tmp_path / "backups")).save("backups", overwrite=True)
        yield address
    finally:
        process.kill()
        process.wait()


def test_a_redis_is_copied_proven_recorded_and_reported(
    cache: RedisAddress, ledger_url: str
) -> None:
    copy = backup_redis()

    assert isinstance(copy, Copy)
    assert (copy.level, copy.rows, copy.engine) == (Level.COMPARED, 2, "redis")
    engine = ledger.connect(ledger_url, pooled=False)
    assert queries.list_copies(engine, "cache", names.WHOLE)[0] == copy
    operation = queries.list_operations(engine, "backup", 1)[0]
    assert operation.evidence.startswith("proven L3: 2 keys of 1 databases loaded and counted")
    with get_client(sync_client=True) as client:
        report = client.request(
            "GET", "/artifacts/{key}/latest", path_params={"key": "backup-cache"}
        ).json()["data"]
    assert "checksum (CRC-64)" in report
    assert f"flowforge redis plan cache --copy {copy.name}" in report


@pytest.mark.filterwarnings('ignore:Field name "copy"')
def test_a_copy_is_planned_and_put_back_and_what_was_there_is_held(
    cache: RedisAddress, ledger_url: str
) -> None:
    from flows.restore_redis import restore_redis  # Prefect warns of its parameter's name

    copy = backup_redis()
    assert isinstance(copy, Copy)
    with connection.connect(cache) as session:
        session.execute_command("SET", "since", "x")

    plan = restore_redis(server="cache", copy=copy.name)
    assert isinstance(plan, RedisRestorePlan)
    assert "a queue of RQ" in "\n".join(plan.warnings)
    restore_redis(server="cache", copy=copy.name, action="apply", plan_hash=plan.digest)

    with connection.connect(cache) as session:
        assert session.execute_command("EXISTS", "a", "since") == 1
    engine = ledger.connect(ledger_url, pooled=False)
    operation = queries.list_operations(engine, "restore", 1)[0]
    assert "2 keys taken, what was there is held as backup-" in operation.evidence
    held = [kept for kept in queries.list_copies(engine, "cache", names.WHOLE) if kept.held]
    assert held and held[0].rows == 3


def test_a_schedule_skips_a_redis_nobody_registered_and_alerts_nobody(
    cache: RedisAddress, ledger_url: str
) -> None:
    state = backup_redis(server="nowhere", only_if_registered=True, return_state=True)

    assert isinstance(state, State)
    assert (state.name, "flowforge redis add nowhere" in str(state.message)) == ("Skipped", True)
    engine = ledger.connect(ledger_url, pooled=False)
    assert queries.list_operations(engine, "backup", 1)[0].outcome == "skipped"
    known = {runs.server for runs in protection.read_known(engine).runs}
    assert "nowhere" not in known
    with pytest.raises(Refused, match="No redis is registered as 'nowhere'"):
        backup_redis(server="nowhere")
