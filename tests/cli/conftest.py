"""The command, against a real server behind a relay."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from flowforge import cli
from tests.client.relay import Relay, run_relay
from tests.prefect_server import clean_environment, prefect_url

__all__ = ["prefect_url"]


@dataclass(frozen=True)
class Said:
    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self.out)
        assert answer["schema"] == 1
        return answer


@contextmanager
def _own_umask() -> Iterator[None]:
    """A process takes its umask along when it ends; this one stays."""
    mask = os.umask(0o022)
    try:
        yield
    finally:
        os.umask(mask)


class Command:
    """`flowforge` in an empty folder, with an environment that names only what is given.

    It runs in this process, which is quick; `in_a_process` runs it as people do.
    """

    def __init__(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.folder = folder
        self._monkeypatch = monkeypatch
        self._capsys = capsys
        self.environment = clean_environment(
            PREFECT_HOME=str(folder / "prefect"), FLOWFORGE_STATE=str(folder / "state")
        )

    def __call__(self, *words: str, stdin: str = "", **environment: str) -> Said:
        with self._monkeypatch.context() as patch:
            for name in os.environ:
                patch.delenv(name)
            for name, value in {**self.environment, **environment}.items():
                patch.setenv(name, value)
            patch.setattr(sys, "argv", ["flowforge", *words])
            patch.setattr(sys, "stdin", io.StringIO(stdin))
            patch.chdir(self.folder)
            self._capsys.readouterr()
            with _own_umask(), pytest.raises(SystemExit) as left:
                cli.main()
        said = self._capsys.readouterr()
        assert isinstance(left.value.code, int)
        return Said(left.value.code, said.out, said.err)

    def in_a_process(self, *words: str) -> Said:
        done = subprocess.run(
            [sys.executable, "-m", "flowforge.cli", *words],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return Said(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def flowforge(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    return Command(tmp_path, monkeypatch, capsys)


@pytest.fixture
def relayed(prefect_url: str) -> Iterator[tuple[Relay, str]]:
    with run_relay(prefect_url) as found:
        yield found


@pytest.fixture
def relay(relayed: tuple[Relay, str]) -> Relay:
    return relayed[0]


@pytest.fixture
def connected(flowforge: Command, relayed: tuple[Relay, str]) -> Command:
    """The command where `FLOWFORGE_API_URL` names a server."""
    flowforge.environment["FLOWFORGE_API_URL"] = relayed[1]
    return flowforge
