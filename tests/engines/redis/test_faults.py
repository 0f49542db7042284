"""Whatever is killed, full, forbidden or flipped: nothing claims to be good, and a clear word."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from flowforge.engines import redis as steps
from flowforge.engines.backup.shelf import catalogue, inventory
from flowforge.engines.backup.stores.folder import FolderStore
from flowforge.engines.redis import connection, copying, proving, rdb, restoring, transfer
from flowforge.errors import Damaged, FlowForgeError, Refused, Unavailable
from flowforge.rules import names
from flowforge.rules.redis_addresses import RedisAddress
from tests.engines.redis.conftest import FILL, Running, Start

# What a flow does, in a process of its own that can be killed.
BACK_UP = """
import sys
from pathlib import Path
from flowforge.engines.backup.shelf import catalogue
from flowforge.engines.backup.stores.folder import FolderStore
from flowforge.engines.redis import copying, proving
from flowforge.rules.redis_addresses import RedisAddress
store = FolderStore("backups", Path(sys.argv[2]))
manifest = copying.take_copy(RedisAddress.model_validate_json(sys.argv[1]), store)
catalogue.add_proof(store, manifest, proving.read_back(store, manifest))
catalogue.add_proof(store, manifest, proving.prove(store, manifest))
"""


def stored(store: FolderStore) -> list[Path]:
    """Every file in a store, those of broken uploads included."""
    return [path for path in store.folder.rglob("*") if path.is_file()]


def entering(running: Running, **changed: object) -> RedisAddress:
    return running.address.model_copy(update=changed)


def test_a_wrong_password_is_refused_and_not_repeated(start: Start, store: FolderStore) -> None:
    locked = start("--requirepass", "right-word", password="hunter2-word")
    for address in (locked.address, entering(locked, password=SecretStr(""))):
        with pytest.raises(Refused, match="does not accept") as refused:
            copying.take_copy(address, store)
        assert "hunter2" not in str(refused.value)
    assert not store.folder.exists()


def test_a_password_is_in_no_argument() -> None:
    address = RedisAddress(
        name="cache", host="h", user="copier", password=SecretStr("hunter2-word"), tls=True
    )
    if shutil.which("redis-cli") is None:
        pytest.skip("Redis is not here: apt install redis-tools")
    words = transfer.command(address)
    assert "hunter2-word" not in " ".join(words)
    assert words[words.index("--user") + 1] == "copier"
    assert "--tls" in words


def test_an_account_needs_the_rights_the_hint_names_and_no_more(
    start: Start, store: FolderStore
) -> None:
    running = start()
    running.do(*FILL, "ACL SETUSER copier on >word +info +ping +select")
    copier = entering(running, user="copier", password=SecretStr("word"))

    with pytest.raises(Refused, match="lacks a right") as refused:
        copying.take_copy(copier, store)
    granted = refused.value.hint.partition(" needs ")[2].partition(";")[0]
    running.do(granted)

    assert copying.take_copy(copier, store).rdb.key_count == 8


def test_a_server_without_sync_is_refused_and_one_without_config_is_copied(
    start: Start, store: FolderStore
) -> None:
    closed = start("--rename-command", "SYNC", "", "--rename-command", "PSYNC", "")
    with pytest.raises(Refused, match="SYNC is renamed or disabled"):
        copying.take_copy(closed.address, store)

    hardened = start("--rename-command", "CONFIG", "", "--rename-command", "DEBUG", "")
    hardened.do("SET a 1")
    assert copying.take_copy(hardened.address, store).rdb.key_count == 1


def test_a_node_of_a_cluster_is_refused(start: Start, store: FolderStore) -> None:
    with pytest.raises(Refused, match="node of a Redis Cluster"):
        copying.take_copy(start("--cluster-enabled", "yes").address, store)


def test_a_server_that_is_not_there_is_unavailable(start: Start, store: FolderStore) -> None:
    running = start()
    running.process.kill()
    running.process.wait()
    with pytest.raises(Unavailable, match="does not answer"):
        copying.take_copy(running.address, store)


@pytest.fixture
def slow(start: Start) -> Running:
    """A server that takes seconds to send its snapshot."""
    running = start("--rdb-key-save-delay", "2000")
    for first in range(0, 3000, 1000):
        running.do(*(f"SET key:{n} {'x' * 100}" for n in range(first, first + 1000)))
    return running


def test_a_server_killed_while_it_sends_leaves_nothing(slow: Running, store: FolderStore) -> None:
    with pytest.raises(Unavailable):
        copying.take_copy(slow.address, store, on_progress=lambda *_: slow.process.kill())
    assert stored(store) == []


def test_a_server_that_stands_still_is_given_up(slow: Running, store: FolderStore) -> None:
    def stop(*_: int) -> None:
        slow.process.send_signal(signal.SIGSTOP)

    with pytest.raises(Unavailable, match="sent nothing for 1 s"):
        copying.take_copy(slow.address, store, quiet_seconds=1, on_progress=stop)
    assert stored(store) == []


def test_a_snapshot_cut_anywhere_ends_early(source: Running) -> None:
    whole = b"".join(transfer.receive(source.address))
    facts = rdb.check_chunks([whole])

    for length in (1, 9, 100, facts.size_bytes - 9, facts.size_bytes - 1):
        with pytest.raises(FlowForgeError):
            rdb.check_chunks([whole[:length]])

    assert len(whole) - facts.size_bytes == rdb.END_MARK_BYTES
    assert rdb.check_chunks([whole[: facts.size_bytes]]) == facts


def test_a_snapshot_with_one_flipped_bit_is_damaged(source: Running) -> None:
    whole = b"".join(transfer.receive(source.address))
    size = rdb.check_chunks([whole]).size_bytes

    for at in range(9, size, 7):
        broken = bytearray(whole)
        broken[at] ^= 1
        with pytest.raises(FlowForgeError):
            rdb.check_chunks([bytes(broken)])
    assert size > 100


def test_bytes_after_the_end_of_a_snapshot_are_damage(source: Running) -> None:
    whole = b"".join(transfer.receive(source.address))
    with pytest.raises(Damaged, match="follow after the end"):
        rdb.check_chunks([whole, b"and more"])


def test_a_flipped_bit_in_the_store_is_found(source: Running, store: FolderStore) -> None:
    manifest = copying.take_copy(source.address, store)
    path = store.folder / manifest.data.key
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)

    for proof in (proving.read_back(store, manifest), proving.prove(store, manifest)):
        assert proof.verdict == "failed"
        catalogue.add_proof(store, manifest, proof)
    (copy,) = catalogue.list_copies(store, "cache", names.WHOLE)
    assert copy.failed


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of one megabyte."""
    if os.geteuid() != 0:
        pytest.skip("a full disk is a small tmpfs, which only root can mount: run as root")
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_refused_and_leaves_nothing(start: Start, small_disk: Path) -> None:
    running = start()
    with connection.connect(running.address) as session:
        session.execute_command("SET", "large", os.urandom(3_000_000))
    full = FolderStore("full", small_disk)

    with pytest.raises(Refused, match="is full"):
        copying.take_copy(running.address, full)

    assert stored(full) == []


def test_a_copy_is_taken_and_none_put_back_while_a_server_takes_no_writes(
    start: Start, store: FolderStore, tmp_path: Path
) -> None:
    sick = start("--save", "3600 1")
    sick.do("SET a 1")
    shutil.rmtree(tmp_path / "redis-0")
    with pytest.raises(Refused, match="does not do what was asked"):
        sick.do("SAVE")
    sick.do("BGSAVE")
    wait_for(sick, "rdb_last_bgsave_status", "err")

    manifest = copying.take_copy(sick.address, store)
    (copy,) = catalogue.list_copies(store, "cache", names.WHOLE)
    plan = restoring.plan(store, manifest, copy, sick.address)
    with pytest.raises(Refused, match="takes no writes"):
        restoring.apply(store, manifest, copy, sick.address, plan.digest)

    assert manifest.rdb.key_count == 1
    assert sick.do("GET a") == [b"1"]


def wait_for(running: Running, field: str, value: str) -> None:
    for _ in range(500):
        with connection.connect(running.address) as session:
            if connection.read_info(session)[field] == value:
                return
    raise AssertionError(f"{field} never was {value}")


@pytest.mark.parametrize(
    "at",
    [pytest.param(at, marks=() if at == "head" else pytest.mark.slow) for at in steps.BACKUP_STEPS],
)
def test_a_backup_killed_anywhere_leaves_a_copy_or_none(
    at: str, source: Running, store: FolderStore
) -> None:
    command = [sys.executable, "-c", BACK_UP, source.address.model_dump_json(), str(store.folder)]

    killed = subprocess.run(command, env={**os.environ, "FLOWFORGE_KILL_AT": at}, check=False)
    subprocess.run(command, check=True)

    assert killed.returncode == -signal.SIGKILL
    copies = catalogue.list_copies(store, "cache", names.WHOLE)
    committed = steps.BACKUP_STEPS.index(at) >= steps.BACKUP_STEPS.index("manifest")
    assert len(copies) == 1 + committed
    assert 3 in [copy.level for copy in copies]
    assert not any(path.name.startswith(".upload-") for path in stored(store))
    found = inventory.take(store, "cache", names.WHOLE)
    assert set(found.manifests) == {copy.name for copy in copies}


@pytest.fixture
def encrypted(start: Start, tmp_path: Path) -> Running:
    """A server that speaks TLS only, with a certificate for 127.0.0.1."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not here: apt install openssl")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += ["-subj", "/CN=redis", "-addext", "subjectAltName=IP:127.0.0.1"]
    command += ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    running = start(
        *("--tls-auth-clients", "no", "--tls-cert-file", str(certificate)),
        *("--tls-key-file", str(key), "--tls-ca-cert-file", str(certificate)),
        tls=True,
    )
    trusting = entering(running, tls=True, ssl_ca_certs=str(certificate))
    return Running(trusting, running.process)


def test_a_copy_comes_over_tls_from_a_server_that_is_trusted(
    encrypted: Running, store: FolderStore
) -> None:
    encrypted.do("SET a 1")
    assert copying.take_copy(encrypted.address, store).rdb.key_count == 1

    for changed in ({"ssl_ca_certs": None}, {"host": "localhost"}):
        with pytest.raises(Refused, match="is not trusted, or is not for"):
            copying.take_copy(entering(encrypted, **changed), store)
    with pytest.raises(Refused, match="is not there, which the URL"):
        copying.take_copy(entering(encrypted, ssl_ca_certs="/nowhere.pem"), store)
