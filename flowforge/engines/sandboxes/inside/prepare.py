"""The last steps before the keeper serves, the same in every kind of place."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import files, frames, room, spawn, system, walls
from .links import PROXY_PORT, Links

CERTIFICATES = room.TEMPORARY / ".certificates.pem"
_USUAL = (
    Path("/etc/ssl/certs/ca-certificates.crt"),
    Path("/etc/pki/tls/certs/ca-bundle.crt"),
    Path("/etc/ssl/cert.pem"),
)


def open_links(wishes: dict[str, Any]) -> Links:
    """Open the proxy's port, if the job has hosts to reach."""
    address = ("127.0.0.1", PROXY_PORT)
    return Links(socket.create_server(address) if wishes["has_egress"] else None)


def _write_certificates(wishes: dict[str, Any]) -> None:
    """Say whom commands shall trust: those this place trusts, and the authority of the proxy."""
    if not wishes["certificate"]:
        return
    known = next((path.read_text() for path in _USUAL if path.is_file()), None)
    usual = wishes["usual_certificates"] if known is None else known
    CERTIFICATES.write_text(usual.rstrip() + "\n" + wishes["certificate"])
    CERTIFICATES.chmod(0o444)


def wall_in() -> None:
    """Give up what could be gained, and close this process to the eyes of commands."""
    os.umask(0o022)
    system.gain_no_privileges()
    walls.stay_among_ourselves()
    system.set_dumpable(yes=False)


def make_place(wishes: dict[str, Any]) -> spawn.Place:
    """What commands are given; from here on this process may call the kernel for less.

    Without Landlock there are no rules: a container is a wall by itself.
    """
    _write_certificates(wishes)
    devices = [*(Path("/dev", name) for name in room.DEVICES), Path("/dev/pts")]
    rules = walls.plan_files(room.WRITABLE, devices) if walls.landlock_version() else None
    walls.filter_calls()
    return spawn.Place(
        folder=os.open(room.WORKSPACE, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC),
        rules=rules,
        bounds=spawn.Bounds(
            processes=wishes["processes"],
            files=wishes["files"],
            file_bytes=2 * wishes["disk_bytes"],
            address_bytes=wishes["address_bytes"],
        ),
        environment=wishes["environment"],
        operations=files.OPERATIONS,
    )


def counter(descriptor: int | None) -> Callable[[], int]:
    """What tells how often the kernel ended a process here for lack of memory."""

    def count() -> int:
        if descriptor is None:
            return 0
        for line in os.pread(descriptor, 4096, 0).decode().splitlines():
            name, _, value = line.partition(" ")
            if name == "oom_kill":
                return int(value)
        return 0

    return count


def ready() -> bytes:
    """The first word of a keeper."""
    return frames.pack_values(frames.READY, 0, {"workspace": str(room.WORKSPACE)})


def failed(error: OSError) -> bytes:
    """The only word of a program that could not become a keeper."""
    values = {"step": str(error.filename), "number": error.errno, "text": error.strerror}
    return frames.pack_values(frames.FAILED, 0, values)
