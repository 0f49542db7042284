"""The state folder: what the local platform remembers between `down` and `up`.

`state.json` also marks the folder as ours: nothing is ever wiped in a folder without it.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import shutil
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from flowforge.errors import Refused
from flowforge.local.part import write_whole

VERSION = 1
_ROLES = ("postgres", "prefect", "flowforge", "shop", "agents")


@dataclass
class State:
    """What `state.json` holds."""

    host: str = "127.0.0.1"
    ports: dict[str, int] = field(default_factory=dict)
    supervisor_pid: int | None = None
    socket_folder: str | None = None
    """Where PostgreSQL's socket is, when the state folder's own path is too long for one."""

    configuration: str = ""
    """Digest of everything the running processes were started with."""

    steps: dict[str, str] = field(default_factory=dict)
    """Digest of the inputs each step of `up` last succeeded with."""


@dataclass(frozen=True)
class StateFolder:
    """The places in a state folder."""

    path: Path

    @property
    def file(self) -> Path:
        """Ports, versions and what was done."""
        return self.path / "state.json"

    @property
    def logs(self) -> Path:
        """One log for each part and step."""
        return self.path / "logs"

    @property
    def postgres(self) -> Path:
        """PostgreSQL's data folder."""
        return self.path / "postgres"

    @property
    def backups(self) -> Path:
        """The folder of the store `backups`."""
        return self.path / "backups"

    @property
    def prefect_home(self) -> Path:
        """Prefect's own folder."""
        return self.path / "prefect"

    @property
    def temporary(self) -> Path:
        """Where runs put temporary files."""
        return self.path / "tmp"

    @property
    def tour(self) -> Path:
        """The table of the last tour."""
        return self.path / "tour.json"

    @property
    def secrets(self) -> Path:
        """Passwords of the platform's own roles."""
        return self.path / "secrets.json"

    def log(self, name: str) -> Path:
        """The log of one part or step."""
        return self.logs / f"{name}.log"

    def prepare(self) -> None:
        """Make the folder if it is not there.

        Raises:
            Refused: It cannot be made, or is full of something else.
        """
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not self.file.exists() and any(
                not entry.name.startswith(f".{self.file.name}.") for entry in self.path.iterdir()
            ):
                raise Refused(
                    f"{self.path} is not empty and not a state folder of FlowForge.",
                    hint="Set FLOWFORGE_STATE to a folder of its own.",
                )
            if not self.file.exists():
                self.write(State())
            for folder in (self.logs, self.backups, self.prefect_home, self.temporary):
                folder.mkdir(mode=0o700, exist_ok=True)
        except (PermissionError, FileExistsError, NotADirectoryError) as error:
            raise Refused(
                f"The state folder {self.path} cannot be used: {error.strerror}.",
                hint="Set FLOWFORGE_STATE to a folder you may write to.",
            ) from error

    def read(self) -> State | None:
        """What is remembered; `None` when nothing is.

        Raises:
            Refused: It was written by a newer FlowForge, or cannot be read.
        """
        try:
            document = json.loads(self.file.read_bytes())
            version = int(document.get("version", 0))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except PermissionError as error:
            raise Refused(
                f"The state folder {self.path} belongs to somebody else.",
                hint="Be that user, or set FLOWFORGE_STATE to a folder of your own.",
            ) from error
        except (ValueError, AttributeError) as error:
            raise Refused(
                f"{self.file} cannot be read.",
                hint="Move that file away; `flowforge up` then starts from the data that is there.",
            ) from error
        if version > VERSION:
            raise Refused(
                f"{self.path} was written by a newer FlowForge (state version {version}, "
                f"this one knows {VERSION}).",
                hint="Use that FlowForge, or set FLOWFORGE_STATE to another folder.",
            )
        for step in range(version, VERSION):
            document = _UPGRADES[step](document)
        known = {name: document[name] for name in State.__dataclass_fields__ if name in document}
        return State(**known)

    def write(self, state: State) -> None:
        """Remember."""
        write_whole(self.file, json.dumps({"version": VERSION, **vars(state)}, indent=1))

    def read_passwords(self) -> dict[str, str]:
        """The password of each of the platform's roles, made up the first time.

        Raises:
            Refused: The data is there and its passwords are not.
        """
        try:
            found: dict[str, str] = json.loads(self.secrets.read_bytes())["passwords"]
        except (FileNotFoundError, ValueError, KeyError):
            found = {}
        if not found and (self.postgres / "PG_VERSION").exists():
            raise Refused(
                f"{self.secrets} is gone, so nobody can enter the databases beside it.",
                hint="Put it back, or start anew with `flowforge down --forget`.",
            )
        return {role: found.get(role) or secrets.token_urlsafe(24) for role in _ROLES}

    def write_secrets(self, passwords: dict[str, str], ledger_url: str) -> None:
        """Keep the passwords, and the address of the ledger for commands that need it."""
        document = {"passwords": passwords, "ledger_url": ledger_url}
        write_whole(self.secrets, json.dumps(document, indent=1))

    def forget(self) -> None:
        """Delete everything in it, and the folder.

        Raises:
            Refused: It is not a state folder of FlowForge.
        """
        if not self.path.exists():
            return
        if not self.file.is_file():
            raise Refused(
                f"{self.path} is not a state folder of FlowForge; nothing was deleted.",
                hint="Check FLOWFORGE_STATE.",
            )
        # The marker goes last, so that an interrupted deletion can be repeated.
        for entry in sorted(self.path.iterdir(), key=lambda entry: entry == self.file):
            if stat.S_ISDIR(entry.lstat().st_mode):
                shutil.rmtree(entry)
            else:
                entry.unlink()
        with contextlib.suppress(OSError):  # a mount point, or somebody's own file appeared
            self.path.rmdir()


def _from_unversioned(document: dict[str, object]) -> dict[str, object]:
    # Before versions, steps were not remembered; doing them again changes nothing.
    return {**document, "version": 1, "steps": {}, "configuration": ""}


_UPGRADES: dict[int, Callable[[dict[str, object]], dict[str, object]]] = {0: _from_unversioned}
