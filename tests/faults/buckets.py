"""Real buckets over HTTP for tests, each test with its own."""

from __future__ import annotations

import functools
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import httpx
from pydantic import SecretStr

from flowforge.engines.backup.stores.s3 import S3Store
from flowforge.engines.backup.stores.s3_link import Limits
from flowforge.rules.addresses import S3Address
from tests.ports import free_port

SECRET = "very-secret-key"
PART = 64 * 1024
QUICK = Limits(
    connect_seconds=2,
    read_seconds=2,
    tries=3,
    total_seconds=10,
    first_pause_seconds=0.01,
    part_bytes=PART,
)


@contextmanager
def serve_buckets() -> Iterator[str]:
    """Run a server of buckets and yield its URL."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    program = Path(__file__).with_name("moto_server.py")
    with subprocess.Popen(
        [sys.executable, str(program), str(port)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as server:
        _wait_for(url, server)
        yield url
        assert server.stdin is not None
        server.stdin.close()


def _wait_for(url: str, server: subprocess.Popen[bytes]) -> None:
    quit_at = time.monotonic() + 60
    while True:
        try:
            httpx.get(url)
        except httpx.TransportError:
            assert server.poll() is None, "the server of buckets ended"
            assert time.monotonic() < quit_at, "the server of buckets does not start"
            time.sleep(0.05)
        else:
            return


@functools.cache
def admin(url: str) -> Any:
    """A client of the owner of all buckets, for looking behind a store."""
    return boto3.client(
        "s3",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id="owner",
        aws_secret_access_key="owner",
    )


def make_bucket(url: str, *, prefix: str = "", **options: Any) -> S3Address:
    """Make a bucket and say where it is."""
    bucket = f"b-{uuid.uuid4().hex}"
    admin(url).create_bucket(Bucket=bucket, **options)
    return S3Address(
        name="attic",
        bucket=bucket,
        prefix=prefix,
        endpoint_url=url,
        access_key_id="AKIDEXAMPLE",
        secret_access_key=SecretStr(SECRET),
    )


def open_quickly(address: S3Address, **changed: Any) -> S3Store:
    """The store at an address, with small parts and little patience."""
    return S3Store(address.model_copy(update=changed), limits=QUICK)


def unfinished(address: S3Address) -> list[str]:
    """Keys of uploads that the bucket still holds."""
    found = admin(str(address.endpoint_url)).list_multipart_uploads(Bucket=address.bucket)
    return [upload["Key"] for upload in found.get("Uploads", [])]
