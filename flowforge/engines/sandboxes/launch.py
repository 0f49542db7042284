"""Starting the program inside of a local sandbox, and finding those that run."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flowforge.engines.sandboxes.cgroups import Cgroup, open_counter
from flowforge.engines.sandboxes.inside import frames
from flowforge.engines.sandboxes.session import read_first
from flowforge.errors import Unavailable

MARK = "flowforge-sandbox"
NOBODY = 65_533
"""Whom root becomes: an account that nothing on a machine belongs to."""

_BOOT = (
    "import sys; sys.path.append(sys.argv[2]); from inside.main import main; main(int(sys.argv[1]))"
)
_HERE = str(Path(__file__).parent)
_START_SECONDS = 30
_END_SECONDS = 10


@dataclass
class Launched:
    """The program inside, ready to be spoken to."""

    guardian: subprocess.Popen[bytes]
    stream: socket.socket
    workspace: str
    group: Cgroup | None

    def end(self) -> None:
        """Wait until all of it is gone, once its stream is closed; then use force."""
        try:
            self.guardian.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self.guardian.kill()
            self.guardian.wait()
        if self.group:
            self.group.remove()


@dataclass(frozen=True)
class Running:
    """A sandbox of this machine as its guardian's command line tells it."""

    pid: int
    sandbox_id: str
    job: str
    fence: int


def launch(name: tuple[str, str, int], wishes: dict[str, Any], group: Cgroup | None) -> Launched:
    """Start the program and wait until it is ready.

    Args:
        name: Identifier of the sandbox, job, fence.
        wishes: What the sandbox shall be like.
        group: The kernel's bounds that shall hold for it; removed with it.

    Raises:
        Refused: This machine cannot give what is wanted.
        Unavailable: It did not start in time.
    """
    ours, theirs = socket.socketpair()
    counter = [open_counter(group)] if group else []
    handed = [theirs.fileno(), *counter]
    command = [sys.executable, "-I", "-S", "-c", _BOOT, str(theirs.fileno()), _HERE, MARK]
    try:
        guardian = subprocess.Popen(
            [*command, *map(str, name)],
            pass_fds=handed,
            env={},
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    finally:
        for descriptor in (*counter, theirs.detach()):
            os.close(descriptor)
    try:
        if group:
            group.add(guardian.pid)  # it waits for our first word, so nothing runs without bounds
        wishes = {**wishes, "brain": os.getpid(), "kills": counter[0] if counter else None}
        ours.settimeout(_START_SECONDS)
        ours.sendall(frames.pack_values(frames.START, 0, wishes))
        return _meet(guardian, ours, group)
    except BaseException:
        ours.close()
        guardian.kill()
        guardian.wait()
        if group:
            group.remove()
        raise


def _meet(
    guardian: subprocess.Popen[bytes], stream: socket.socket, group: Cgroup | None
) -> Launched:
    try:
        data = stream.recv(frames.CHUNK)
    except (TimeoutError, ConnectionError):
        data = b""
    stream.setblocking(False)
    for kind, _, payload in frames.unpack(bytearray(data)):
        workspace = read_first(kind, frames.read_values(payload))
        return Launched(guardian, stream, workspace, group)
    raise Unavailable(
        "The program inside a new sandbox did not start.",
        hint=f"Look whether `{sys.executable} -I -S -c pass` works here; then try again.",
    )


def find_running() -> Iterator[Running]:
    """Every sandbox of this account whose guardian runs, whichever process started it.

    A command inside may call itself whatever it likes, but it is in a deeper namespace.
    """
    owners = (os.geteuid(), NOBODY) if os.geteuid() == 0 else (os.geteuid(),)
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError, ValueError):
            words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
            is_ours = entry.stat().st_uid in owners and _is_in_our_namespace(entry)
            if MARK in words and is_ours:
                sandbox_id, job, fence = words[words.index(MARK) + 1 :][:3]
                yield Running(int(entry.name), sandbox_id, job, int(fence))


def _is_in_our_namespace(process: Path) -> bool:
    for line in (process / "status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "NSpid":
            return len(value.split()) == 1
    return False


def end_running(running: Running) -> None:
    """End a sandbox by its guardian, and wait until it is gone."""
    with contextlib.suppress(ProcessLookupError):
        guardian = os.pidfd_open(running.pid)
        try:
            if running in find_running():  # else the number means another process by now
                _end(guardian)
        finally:
            os.close(guardian)


def _end(guardian: int) -> None:
    signal.pidfd_send_signal(guardian, signal.SIGTERM)
    poll = select.poll()
    poll.register(guardian, select.POLLIN)
    if not poll.poll(_END_SECONDS * 1000):
        signal.pidfd_send_signal(guardian, signal.SIGKILL)
        poll.poll(_END_SECONDS * 1000)
