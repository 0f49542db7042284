"""An upload to a bucket ends as one whole object or as nothing, whatever the network does."""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from flowforge.engines.backup.stores.s3 import S3Store
from flowforge.engines.backup.stores.s3_upload import choose_part_bytes
from flowforge.errors import Refused, Unavailable
from flowforge.rules.addresses import S3Address
from tests.faults import proxy as faults
from tests.faults.buckets import (
    PART,
    QUICK,
    SECRET,
    admin,
    make_bucket,
    open_quickly,
    unfinished,
)
from tests.faults.proxy import Proxy, stand_before

COMPLETE = r"^POST .*uploadId="
ABORT = r"^DELETE .*uploadId="
_MIB = 1 << 20


@pytest.fixture(scope="module")
def address(buckets: str) -> S3Address:
    return make_bucket(buckets, prefix="kept/")


@pytest.fixture
def proxy(buckets: str) -> Iterator[Proxy]:
    with stand_before(buckets) as standing:
        yield standing


@pytest.fixture
def store(address: S3Address, proxy: Proxy) -> S3Store:
    return open_quickly(address, endpoint_url=proxy.url)


@pytest.fixture(autouse=True)
def no_keys_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)


def a_key() -> str:
    return f"postgres/shop/{secrets.token_hex(8)}.sql.gz"


def send(store: S3Store, key: str, content: bytes) -> None:
    with store.upload(key, expected_bytes=len(content)) as upload:
        for at in range(0, len(content), 50_000):
            upload.write(content[at : at + 50_000])
        upload.commit()


def content_of(store: S3Store, key: str) -> bytes:
    with store.read(key) as file:
        return b"".join(iter(lambda: file.read(1 << 16) or b"", b""))


def test_parts_keep_any_object_below_ten_thousand() -> None:
    least = 8 * _MIB
    assert choose_part_bytes(1, 0, least) == least
    assert choose_part_bytes(1, 90_000 * _MIB, least) == 10 * _MIB
    assert choose_part_bytes(9_000, 90_000 * _MIB, least) == 10 * _MIB
    assert choose_part_bytes(9_001, 90_000 * _MIB, least) == 20 * _MIB
    unplanned = sum(choose_part_bytes(number, 0, least) for number in range(1, 10_001))
    assert unplanned > 1 << 40


def test_a_small_object_is_one_request_and_a_large_one_is_parts(
    store: S3Store, proxy: Proxy
) -> None:
    small, large = a_key(), a_key()
    send(store, small, b"x" * 1000)
    assert proxy.count("uploads|uploadId") == 0
    content = secrets.token_bytes(3 * PART + 1)
    send(store, large, content)
    assert proxy.count("partNumber=") == 4
    assert content_of(store, large) == content
    assert content_of(store, small) == b"x" * 1000


def test_500_forever_ends_the_upload_in_bounded_time_and_leaves_no_part(
    store: S3Store, proxy: Proxy, address: S3Address
) -> None:
    proxy.fail(r"partNumber=([7-9]|1\d)\b", faults.answer(500, "InternalError"), times=1000)
    key, began = a_key(), time.monotonic()
    with pytest.raises(Unavailable, match="InternalError") as caught:
        send(store, key, bytes(12 * PART))
    assert time.monotonic() - began < 10
    tried = [proxy.count(rf"partNumber={number}\b") for number in (7, 8)]
    assert max(tried) == QUICK.tries and proxy.count("partNumber=9") == 0
    assert proxy.count(ABORT) > 0
    assert unfinished(address) == []
    assert store.head(key) is None
    assert "again" in caught.value.hint and SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "fault",
    [
        faults.stall,
        faults.cut_before,
        faults.cut_after,
        faults.flip_sent,
        faults.answer(503, "SlowDown"),
    ],
    ids=["stalled", "cut before", "answer lost", "bit flipped", "slow down"],
)
def test_a_part_that_fails_is_sent_again_alone(
    store: S3Store, proxy: Proxy, fault: faults.Fault
) -> None:
    proxy.fail(r"partNumber=3\b", fault)
    key, content = a_key(), secrets.token_bytes(6 * PART)
    send(store, key, content)
    assert content_of(store, key) == content
    assert proxy.count(r"partNumber=3\b") == 2
    assert proxy.count("partNumber=") == 7


def test_a_writer_waits_while_parts_are_on_their_way(address: S3Address, proxy: Proxy) -> None:
    proxy.fail("partNumber=", faults.stall, times=1000)
    limits = replace(QUICK, read_seconds=0.3)
    store = S3Store(address.model_copy(update={"endpoint_url": proxy.url}), limits=limits)
    written = 0
    with pytest.raises(Unavailable), store.upload(a_key()) as upload:
        for _ in range(100):
            upload.write(bytes(PART))
            written += 1
    assert written == QUICK.parts_in_flight


@pytest.mark.parametrize("size", [10, 3 * PART], ids=["one request", "parts"])
@pytest.mark.parametrize("lost", [1, 1000], ids=["once", "always"])
def test_a_lost_answer_to_the_last_step_is_asked_for_and_the_object_adopted(
    store: S3Store, proxy: Proxy, address: S3Address, size: int, lost: int
) -> None:
    key, content = a_key(), secrets.token_bytes(size)
    proxy.fail(f"{COMPLETE}|^PUT [^?]*{key}( |$|\\?x-id=PutObject)", faults.cut_after, times=lost)
    send(store, key, content)
    assert content_of(store, key) == content
    assert unfinished(address) == []
    assert len([one.key for one in store.listing(key)]) == 1


def test_a_lost_answer_for_a_small_object_is_asked_for_too(store: S3Store, proxy: Proxy) -> None:
    key = f"{a_key()}.manifest.json"
    proxy.fail(f"^PUT .*{key}", faults.cut_after)
    store.put_new(key, b"{}")
    assert content_of(store, key) == b"{}"


@pytest.mark.parametrize("size", [10, 3 * PART], ids=["one request", "parts"])
def test_an_object_that_came_first_stays(store: S3Store, address: S3Address, size: int) -> None:
    key = a_key()
    with pytest.raises(Refused, match="exists already"), store.upload(key) as upload:
        upload.write(bytes(size))
        open_quickly(address).put_new(key, b"first")
        upload.commit()
    assert content_of(store, key) == b"first"
    assert unfinished(address) == []


def test_a_service_that_overwrites_is_refused_before_anything_is_written(
    buckets: str, proxy: Proxy
) -> None:
    proxy.fail("^PUT", faults.without("if-none-match"), times=1000)
    store = open_quickly(make_bucket(buckets), endpoint_url=proxy.url)
    with pytest.raises(Refused, match="conditional writes"):
        store.put_new("a/m.json", b"1")
    with pytest.raises(Refused, match="conditional writes"), store.upload("a/x"):
        pass
    assert list(store.listing("a/")) == []


@contextmanager
def keys_of_a_role(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Give out keys as a container's role does, each time others; yields those given out."""
    given: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            given.append(f"ROLE{len(given)}")
            until = datetime.now(UTC) + timedelta(hours=6)
            keys = {"AccessKeyId": given[-1], "SecretAccessKey": SECRET, "Token": "token"}
            body = json.dumps({**keys, "Expiration": until.isoformat()}).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        url = f"http://127.0.0.1:{server.server_address[1]}/"
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", url)
        try:
            yield given
        finally:
            server.shutdown()
            thread.join()


def expire(proxy: Proxy, user: str) -> None:
    """From part 20 on, refuse the keys of a user."""
    started = threading.Event()

    def has_expired(request: faults.Request) -> bool:
        if "partNumber=20" in request.line:
            started.set()
        return started.is_set() and f"Credential={user}/" in request.headers["authorization"]

    proxy.fail("", faults.answer(400, "ExpiredToken"), times=1000, when=has_expired)


def test_keys_that_expire_on_the_way_are_renewed_once(
    address: S3Address, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    with keys_of_a_role(monkeypatch) as given:
        changed = {"access_key_id": None, "secret_access_key": None, "endpoint_url": proxy.url}
        store = open_quickly(address, **changed)
        expire(proxy, "ROLE0")
        key, content = a_key(), secrets.token_bytes(24 * PART)
        send(store, key, content)
        assert content_of(store, key) == content
        assert given == ["ROLE0", "ROLE1"]


def test_keys_that_expire_for_good_leave_the_rest_to_a_sweep(
    store: S3Store, proxy: Proxy, address: S3Address
) -> None:
    expire(proxy, "AKIDEXAMPLE")
    key = a_key()
    with pytest.raises(Refused, match="has expired") as caught:
        send(store, key, bytes(24 * PART))
    assert proxy.count(ABORT) > 0
    assert "until it is swept" in " ".join(caught.value.__notes__)
    assert SECRET not in str(caught.value)
    assert unfinished(address) == [f"kept/{key}"]
    later = S3Store(address, limits=replace(QUICK, abandoned_after=timedelta(0)))
    assert later.sweep("postgres/", datetime.now(UTC)) == [key]
    assert unfinished(address) == []


def test_an_upload_of_a_killed_process_is_swept_after_a_day_and_a_live_one_never(
    buckets: str,
) -> None:
    address = make_bucket(buckets)
    with store_in_another_process(address) as running:
        store, later = open_quickly(address), datetime.now(UTC) + timedelta(days=1)
        assert unfinished(address) == ["a/x"]
        assert store.sweep("a/", later) == []
        running.kill()
        running.wait()
    assert list(store.listing("a/")) == []
    assert store.sweep("a/", later) == []
    a_day_on = S3Store(address, limits=replace(QUICK, abandoned_after=timedelta(0)))
    assert a_day_on.sweep("b/", later) == []
    assert a_day_on.sweep("a/", datetime(2000, 1, 1, tzinfo=UTC)) == []
    assert a_day_on.sweep("a/", later) == ["a/x"]
    assert unfinished(address) == []


def in_plain(address: S3Address) -> str:
    """An address for another process, with a secret that is none."""
    return json.dumps({**address.model_dump(mode="json"), "secret_access_key": "example"})


@contextmanager
def store_in_another_process(address: S3Address) -> Iterator[subprocess.Popen[bytes]]:
    program = (
        "import sys\n"
        "from tests.faults.buckets import PART, open_quickly\n"
        "from flowforge.rules.addresses import S3Address\n"
        "address = S3Address.model_validate_json(sys.argv[1])\n"
        "with open_quickly(address).upload('a/x') as upload:\n"
        "    for _ in range(6): upload.write(bytes(PART))\n"
        "    print('writing', flush=True); sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, in_plain(address)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == b"writing\n"
        yield running


@pytest.mark.slow
def test_an_upload_holds_three_parts_however_large_it_is(address: S3Address, proxy: Proxy) -> None:
    program = (
        "import hashlib, os, psutil, sys\n"
        "from flowforge.engines.backup.stores.s3 import S3Store\n"
        "from flowforge.rules.addresses import S3Address\n"
        "store = S3Store(S3Address.model_validate_json(sys.argv[1]))\n"
        "store.put_new(sys.argv[2] + '.first', b'')\n"
        "before = psutil.Process().memory_info().rss; most = before; sha = hashlib.sha256()\n"
        "with store.upload(sys.argv[2]) as upload:\n"
        "    for _ in range(1200):\n"
        "        chunk = os.urandom(1 << 18); sha.update(chunk); upload.write(chunk)\n"
        "        most = max(most, psutil.Process().memory_info().rss)\n"
        "    upload.commit()\n"
        "print(most - before, sha.hexdigest())\n"
    )
    key = a_key()
    given = in_plain(address.model_copy(update={"endpoint_url": proxy.url}))
    done = subprocess.run(
        [sys.executable, "-c", program, given, key], capture_output=True, text=True, check=True
    )
    grown, sha256 = done.stdout.split()
    assert int(grown) < 40 * _MIB
    store = admin(str(address.endpoint_url))
    body = store.get_object(Bucket=address.bucket, Key=f"kept/{key}")["Body"]
    with body:
        assert hashlib.file_digest(body, "sha256").hexdigest() == sha256
