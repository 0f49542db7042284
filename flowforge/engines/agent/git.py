"""Git as the brain runs it: on files a stranger wrote, and nothing of theirs is obeyed.

The Git folder lies outside of the files, its settings are written here, and the environment is made
from nothing. So hooks, filters, monitors and helpers that a workspace asks for are never run, and
contents are stored byte for byte.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from flowforge.engines.agent import commands
from flowforge.errors import Damaged, Refused, Unavailable

MOST_BYTES = 256 * 1024 * 1024
"""The most one command of Git may answer; more would be the brain's memory."""

_HEARD_BYTES = 16 * 1024
_PASSED_ON = ("PATH", "https_proxy", "HTTPS_PROXY", "http_proxy", "no_proxy", "NO_PROXY")
_CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "GIT_SSL_CAINFO")
_NEVER_WANTED = ("__pycache__/", "*.py[co]", ".pytest_cache/", ".mypy_cache/", ".ruff_cache/")
# Beats every .gitattributes below it: no conversion of any kind, and differences are shown.
_ATTRIBUTES = "* -text !eol !ident !filter !working-tree-encoding !diff !merge\n"
_SETTINGS = """\
[core]
repositoryformatversion = 0
fileMode = true
symlinks = true
ignoreCase = false
precomposeUnicode = false
autocrlf = false
safecrlf = false
hooksPath = /dev/null
attributesFile = /dev/null
excludesFile = /dev/null
fsmonitor = false
untrackedCache = false
fsync = none
[credential]
helper =
[diff]
renames = true
[fetch]
recurseSubmodules = false
[gc]
auto = 0
[maintenance]
auto = false
[http]
lowSpeedLimit = 1000
lowSpeedTime = 60
[pack]
threads = 1
[protocol]
allow = never
[submodule]
recurse = false
"""

Heard = Callable[[str], None]


@dataclass(frozen=True)
class Said:
    """How a command of Git ended."""

    status: int
    out: bytes
    err: str


class Git:
    """One Git folder that only this code writes to.

    Args:
        folder: The Git folder itself.
        files: The work tree, which holds nothing that is trusted.
    """

    def __init__(self, folder: Path, files: Path | None = None) -> None:
        self.folder = folder
        self.files = files

    def create(self, *, borrow: Path | None = None) -> None:
        """Write the folder, which must not be there yet.

        Args:
            borrow: A Git folder whose objects count as its own.
        """
        self.folder.mkdir(mode=0o700)
        for part in ("objects/info", "objects/pack", "refs", "info"):
            (self.folder / part).mkdir(parents=True)
        (self.folder / "HEAD").write_text("ref: refs/heads/none\n")
        (self.folder / "config").write_text(_SETTINGS)
        (self.folder / "info/attributes").write_text(_ATTRIBUTES)
        (self.folder / "info/exclude").write_text("".join(f"{name}\n" for name in _NEVER_WANTED))
        if borrow:
            (self.folder / "objects/info/alternates").write_text(f"{borrow / 'objects'}\n")

    async def run(
        self,
        *args: str,
        input: bytes = b"",
        index: Path | None = None,
        extra: Mapping[str, str] | None = None,
        heard: Heard | None = None,
        idle_seconds: float | None = None,
    ) -> Said:
        """Run a command of Git, whatever it ends with.

        Args:
            args: The command and its arguments.
            input: Its standard input.
            index: The index it works on.
            extra: Added to its environment.
            heard: Told each line it says on standard error while it runs.
            idle_seconds: Silent for so long, it is ended.

        Raises:
            Refused: Git is not installed, or it answers more than `MOST_BYTES`.
            Unavailable: It stood still.
        """
        env = environment() | {"GIT_DIR": str(self.folder)} | dict(extra or {})
        if self.files:
            env["GIT_WORK_TREE"] = str(self.files)
        if index:
            env["GIT_INDEX_FILE"] = str(index)
        out, err = bytearray(), bytearray()
        try:
            async with asyncio.timeout(idle_seconds) as patience:

                def listen(piece: bytes) -> None:
                    err[:] = (err + piece)[-_HEARD_BYTES:]
                    if idle_seconds is not None:
                        patience.reschedule(asyncio.get_running_loop().time() + idle_seconds)
                    if heard:
                        _tell(piece, heard)

                status = await commands.run(
                    ["git", *args],
                    env=env,
                    cwd=self.files or self.folder,
                    out=lambda piece: _collect(out, piece),
                    err=listen,
                    input=input,
                )
        except FileNotFoundError:
            raise Refused("Git is not installed.", hint="apt install git") from None
        except TimeoutError:
            said = f"The repository has sent nothing for {idle_seconds:.0f} s."
            raise Unavailable(said, hint="Try again later.") from None
        return Said(status, bytes(out), err.decode(errors="replace"))

    def commit(self, tree: str, parent: str | None = None) -> str:
        """Make a commit of a tree, always the same for the same tree and parent; its name."""
        who = "flowforge <flowforge> 0 +0000"
        before = f"parent {parent}\n" if parent else ""
        said = f"tree {tree}\n{before}author {who}\ncommitter {who}\n\nworkspace\n".encode()
        content = b"commit %d\0%s" % (len(said), said)
        name = hashlib.sha1(content, usedforsecurity=False).hexdigest()
        place = self.folder / "objects" / name[:2] / name[2:]
        place.parent.mkdir(exist_ok=True)
        place.write_bytes(zlib.compress(content))
        return name

    async def ask(self, *args: str, input: bytes = b"", index: Path | None = None) -> bytes:
        """What a command answers that cannot fail unless something is broken.

        Raises:
            Damaged: It failed; Git's own words are in the message.
        """
        return checked(args[0], await self.run(*args, input=input, index=index))

    async def ask_line(self, *args: str, input: bytes = b"", index: Path | None = None) -> str:
        """The one line a command answers."""
        return (await self.ask(*args, input=input, index=index)).decode().strip()


def checked(command: str, said: Said) -> bytes:
    """What a command answered.

    Raises:
        Unavailable: The disk is full.
        Damaged: It failed; Git's own words are in the message.
    """
    if said.status == 0:
        return said.out
    if "No space left on device" in said.err:
        raise Unavailable("The disk of the worker is full.", hint="Free space on it.")
    raise Damaged(
        f"git {command} failed: {said.err.strip()[-500:]}",
        hint="Look at the files of the job; the message is Git's own.",
    )


def environment() -> dict[str, str]:
    """An environment in which no one's settings are read and no one is asked for anything."""
    kept = {name: os.environ[name] for name in _PASSED_ON + _CERTIFICATES if name in os.environ}
    return kept | {
        "HOME": "/nonexistent",
        "LC_ALL": "C",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_NO_LAZY_FETCH": "1",
    }


def _collect(found: bytearray, piece: bytes) -> None:
    found += piece
    if len(found) > MOST_BYTES:
        raise Refused(
            f"The files of the job have changed by more than {MOST_BYTES >> 20} MB.",
            hint="Keep what is large out of the workspace, or name it in .gitignore.",
        )


def _tell(piece: bytes, heard: Heard) -> None:
    for line in piece.decode(errors="replace").replace("\r", "\n").splitlines():
        heard(line.strip())
