"""Where contenders keep their copies: a folder, or a bucket behind TLS as in the cloud.

The bucket is moto's, on loopback: each byte costs processor time that a store elsewhere would not
cost this machine, the same for everybody. `rclone` moves what is not FlowForge's there and back.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pydantic import SecretStr

from bench.sampling import folder_bytes
from bench.stand import stop, wait_until
from flowforge.engines.backup.stores.store import open_store
from flowforge.rules.addresses import FolderAddress, S3Address, StoreAddress

BUCKET = "bench"
KEY = "bench"
_RCLONE = "env -u AWS_CA_BUNDLE rclone"  # it cannot bear the variable


class Shelf(Protocol):
    """One kind of place; every contender has a corner of its own in it."""

    title: str
    lacking: str | None

    @property
    def environment(self) -> Mapping[str, str]:
        """What programs that use it are told."""

    @property
    def is_local(self) -> bool:
        """Whether nothing has to be sent there."""

    def address(self, corner: str) -> StoreAddress:
        """The corner as FlowForge knows it."""

    def empty(self, corner: str) -> None:
        """Take everything out of a corner."""

    def size_bytes(self, corner: str) -> int:
        """What lies in a corner."""

    def upload(self, folder: Path, corner: str) -> str:
        """The line of shell that brings a folder there."""

    def download(self, corner: str, folder: Path) -> str:
        """The line of shell that brings it back."""

    def sink(self, corner: str) -> str:
        """What a pipe ends in to be kept there."""

    def source(self, corner: str) -> str:
        """What a pipe begins with to read that."""


@dataclass
class FolderShelf:
    """A folder of this machine."""

    root: Path
    title: str = "a folder"
    lacking: str | None = None

    @property
    def environment(self) -> Mapping[str, str]:
        """Nothing has to be told."""
        return {}

    @property
    def is_local(self) -> bool:
        """It is on this machine."""
        return True

    def address(self, corner: str) -> StoreAddress:
        """The corner as FlowForge knows it."""
        return FolderAddress(name="bench", folder=self.root / corner)

    def empty(self, corner: str) -> None:
        """Take everything out of a corner."""
        shutil.rmtree(self.root / corner, ignore_errors=True)
        (self.root / corner).mkdir(parents=True)

    def size_bytes(self, corner: str) -> int:
        """What lies in a corner."""
        return folder_bytes(self.root / corner)

    def upload(self, folder: Path, corner: str) -> str:
        """Copied and flushed, as an upload would do at its fastest."""
        place = self.root / corner
        return f"cp -r {q(folder)} {q(place / 'dump')} && sync -f {q(place)}"

    def download(self, corner: str, folder: Path) -> str:
        """Copied back."""
        return f"cp -r {q(self.root / corner / 'dump')} {q(folder)}"

    def sink(self, corner: str) -> str:
        """A file."""
        return f"cat > {q(self.root / corner / 'copy.gz')}"

    def source(self, corner: str) -> str:
        """The file."""
        return f"cat {q(self.root / corner / 'copy.gz')}"


@dataclass
class BucketShelf:
    """A bucket behind TLS."""

    endpoint: str
    certificate: Path
    title: str = "a bucket behind TLS (moto on loopback)"
    lacking: str | None = None

    def __post_init__(self) -> None:
        if shutil.which("rclone") is None:
            self.lacking = "rclone is not here: apt install rclone"

    @property
    def environment(self) -> Mapping[str, str]:
        """What tells `rclone` and botocore where the bucket is."""
        return {
            "AWS_CA_BUNDLE": str(self.certificate),
            "RCLONE_CONFIG": os.devnull,
            "RCLONE_CA_CERT": str(self.certificate),
            "RCLONE_CONFIG_B_TYPE": "s3",
            "RCLONE_CONFIG_B_PROVIDER": "Other",
            "RCLONE_CONFIG_B_ENDPOINT": self.endpoint,
            "RCLONE_CONFIG_B_ACCESS_KEY_ID": KEY,
            "RCLONE_CONFIG_B_SECRET_ACCESS_KEY": KEY,
            "RCLONE_S3_NO_CHECK_BUCKET": "true",
        }

    @property
    def is_local(self) -> bool:
        """It is behind a connection, though on this machine here."""
        return False

    def address(self, corner: str) -> StoreAddress:
        """The corner as FlowForge knows it."""
        return S3Address(
            name="bench",
            bucket=BUCKET,
            prefix=f"{corner}/",
            region="us-east-1",
            endpoint_url=self.endpoint,
            access_key_id=KEY,
            secret_access_key=SecretStr(KEY),
        )

    def empty(self, corner: str) -> None:
        """Take everything out of a corner."""
        store = open_store(self.address(corner))
        for stored in list(store.listing("")):
            store.delete(stored.key)

    def size_bytes(self, corner: str) -> int:
        """What lies in a corner."""
        return sum(stored.size_bytes for stored in open_store(self.address(corner)).listing(""))

    def upload(self, folder: Path, corner: str) -> str:
        """Several files and parts at once, as rclone does."""
        return f"{_RCLONE} copy {q(folder)} b:{BUCKET}/{corner}/dump"

    def download(self, corner: str, folder: Path) -> str:
        """The same way back."""
        return f"{_RCLONE} copy b:{BUCKET}/{corner}/dump {q(folder)}"

    def sink(self, corner: str) -> str:
        """An upload of unknown length."""
        return f"{_RCLONE} rcat b:{BUCKET}/{corner}/copy.gz"

    def source(self, corner: str) -> str:
        """A download."""
        return f"{_RCLONE} cat b:{BUCKET}/{corner}/copy.gz"


@contextlib.contextmanager
def open_bucket(folder: Path) -> Iterator[BucketShelf]:
    """Serve a bucket while the block lasts."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    certificate, key = folder / "bucket.pem", folder / "bucket.key"
    with (folder / "bucket.log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "bench.bucket", str(port), str(certificate), str(key)],
            cwd=Path(__file__).parent.parent,
            stdout=log,
            stderr=log,
        )
        try:
            wait_until(lambda: _listens(port, server, folder / "bucket.log"), 60)
            os.environ["AWS_CA_BUNDLE"] = str(certificate)
            yield BucketShelf(f"https://localhost:{port}", certificate)
        finally:
            os.environ.pop("AWS_CA_BUNDLE", None)
            stop(server)


def _listens(port: int, server: subprocess.Popen[bytes], log: Path) -> bool:
    if server.poll() is not None:
        raise RuntimeError(log.read_text()[-2000:])
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def q(path: Path) -> str:
    """A path as the shell reads it."""
    return shlex.quote(str(path))
