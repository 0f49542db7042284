"""A PostgreSQL for tests of what happens when it goes away."""

from __future__ import annotations

import subprocess
from pathlib import Path

import psutil

from flowforge.engines.postgres import installations
from flowforge.engines.postgres.cluster import Cluster, wait_until_ready
from tests.ledger.conftest import url_of


class Server:
    """A PostgreSQL that can be killed and started again on the same data."""

    def __init__(self, folder: Path) -> None:
        settings = {"listen_addresses": "", "fsync": "off"}
        newest = installations.newest_server()
        self._cluster = Cluster(newest, folder / "data", folder, settings=settings)
        self._cluster.create()
        self._address = self._cluster.address("here")
        self._process: subprocess.Popen[bytes] | None = None
        self.url = url_of(self._address)

    @property
    def runs(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        command = self._cluster.start_command()
        self._process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        wait_until_ready(self._address, self._process)

    def kill(self) -> None:
        assert self._process is not None
        backends = psutil.Process(self._process.pid).children(recursive=True)
        self._process.kill()  # what it runs in a namespace dies along, a moment later
        self._process.wait()
        _, alive = psutil.wait_procs(backends, timeout=10)
        assert alive == []
