"""Which ports the platform listens on: the usual ones, or the next free ones and said so."""

from __future__ import annotations

import errno
import socket
from collections.abc import Mapping
from dataclasses import dataclass

import psutil

from flowforge.errors import Refused

DEFAULTS: Mapping[str, int] = {
    "api": 8080,
    "ui": 3000,
    "metrics": 9090,
    "postgres": 5432,
    "model": 8090,
}
VARIABLES: Mapping[str, str] = {name: f"FLOWFORGE_{name.upper()}_PORT" for name in DEFAULTS}
_TRIED = 200


@dataclass(frozen=True)
class Choice:
    """The ports chosen, and a sentence for each that is not the usual one."""

    ports: dict[str, int]
    notes: tuple[str, ...]


def choose_ports(
    host: str, fixed: Mapping[str, int | None], remembered: Mapping[str, int]
) -> Choice:
    """Choose a free port for each listener.

    Args:
        host: Address the server will bind to; PostgreSQL always binds to loopback.
        fixed: Ports that the environment demands.
        remembered: Ports of the last time, kept when they are still free.

    Raises:
        Refused: A demanded port is taken or demanded twice.
    """
    ports: dict[str, int] = {}
    notes: list[str] = []
    for name in sorted(DEFAULTS, key=lambda name: fixed.get(name) is None):
        address = "127.0.0.1" if name in ("postgres", "model") else host
        if (demanded := fixed.get(name)) is not None:
            ports[name] = _demand(name, demanded, address, ports)
            continue
        wanted = DEFAULTS[name]
        first = remembered.get(name, wanted)
        candidates = [first, *range(wanted, min(wanted + _TRIED, 65536))]
        ports[name] = next(
            (p for p in candidates if p not in ports.values() and is_free(p, address)), 0
        ) or _any_free(address)
        if ports[name] != wanted:
            notes.append(_tell(name, wanted, ports[name], address))
    return Choice(ports, tuple(notes))


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Whether a listener could take the port now."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
            listener.listen(1)
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                return False
            raise Refused(
                f"Nothing can listen on {host}: {error.strerror}.",
                hint="Set FLOWFORGE_HOST to an address of this machine, or unset it.",
            ) from error
    return True


def find_holder(port: int) -> psutil.Process | None:
    """The process that listens on a port, if it may be seen."""
    try:
        connections = psutil.net_connections(kind="tcp")
    except psutil.AccessDenied:
        return None  # macOS tells only root
    for connection in connections:
        if connection.status != psutil.CONN_LISTEN or not connection.pid:
            continue
        if connection.laddr and connection.laddr.port == port:
            try:
                return psutil.Process(connection.pid)
            except psutil.NoSuchProcess:
                return None
    return None


def describe_holder(port: int) -> str:
    """Name and pid of whoever listens on a port; empty when nobody can be named."""
    holder = find_holder(port)
    if holder is None:
        return ""
    try:
        return f"{holder.name()} (pid {holder.pid})"
    except psutil.NoSuchProcess:
        return ""


def _tell(name: str, usual: int, chosen: int, address: str) -> str:
    if is_free(usual, address):
        return f"{name} stays on port {chosen}, as the last time"
    who = describe_holder(usual)
    return f"port {usual} is taken{f' by {who}' if who else ''}; {name} is on {chosen}"


def _demand(name: str, port: int, address: str, chosen: Mapping[str, int]) -> int:
    variable = VARIABLES[name]
    if not 1 <= port <= 65535:
        raise Refused(f"{variable}={port} is not a port.", hint="Choose one from 1 to 65535.")
    if port in chosen.values():
        raise Refused(
            f"{variable} asks for port {port}, which another FLOWFORGE_*_PORT asks for too.",
            hint="Give each its own port.",
        )
    if not is_free(port, address):
        who = describe_holder(port) or "a process of another user"
        raise Refused(
            f"Port {port} ({variable}) is taken by {who}.",
            hint=f"Stop it, choose another {variable}, or unset it to take the next free port.",
            port=port,
        )
    return port


def _any_free(host: str) -> int:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as listener:
        listener.bind((host, 0))
        port: int = listener.getsockname()[1]
        return port
