"""The three sockets, taken before anything slow is loaded: a port that is gone is said at once."""

from __future__ import annotations

import errno
import socket
from dataclasses import dataclass

from flowforge.errors import Refused
from flowforge.settings import Settings

_DEFAULT_PORTS = {"api": 8080, "ui": 3000, "metrics": 9090}


@dataclass(frozen=True)
class Sockets:
    """Bound here and not yet listening: a client is refused until the server is ready for it.

    Those inherited from a supervisor listen already: a client waits for the server.
    """

    api: socket.socket
    ui: socket.socket
    metrics: socket.socket

    @property
    def ports(self) -> tuple[int, int, int]:
        """The three ports, in that order."""
        api, ui, metrics = (s.getsockname()[1] for s in (self.api, self.ui, self.metrics))
        return api, ui, metrics


def bind(settings: Settings) -> Sockets:
    """Take the three ports, or the sockets that were inherited.

    Raises:
        Refused: One is taken, or the host is not this machine's, or what was to be inherited is not
            there.
    """
    if settings.listeners:
        return _inherit(settings.listeners)
    wanted = {
        "api": settings.api_port,
        "ui": settings.ui_port,
        "metrics": settings.metrics_port,
    }
    taken = {
        name: _take(settings.host, _DEFAULT_PORTS[name] if port is None else port, name)
        for name, port in wanted.items()
    }
    return Sockets(**taken)


def _inherit(descriptors: str) -> Sockets:
    try:
        api, ui, metrics = (socket.socket(fileno=int(number)) for number in descriptors.split(","))
    except (OSError, ValueError) as error:
        raise Refused(
            f"FLOWFORGE_LISTENERS={descriptors} does not name three sockets that were inherited.",
            hint="Unset it; only who starts the server with sockets of its own sets it.",
        ) from error
    for inherited in (api, ui, metrics):
        inherited.set_inheritable(False)
    return Sockets(api, ui, metrics)


def _take(host: str, port: int, name: str) -> socket.socket:
    variable = f"FLOWFORGE_{name.upper()}_PORT"
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        taken = socket.socket(family, kind, protocol)
    except OSError as error:
        raise Refused(
            f"The host {host!r} is not known here.", hint="Set FLOWFORGE_HOST to an own address."
        ) from error
    try:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(address)
    except OSError as error:
        taken.close()
        raise _explain(error, host, port, variable) from error
    return taken


def _explain(error: OSError, host: str, port: int, variable: str) -> Refused:
    if error.errno == errno.EADDRINUSE:
        return Refused(
            f"Port {port} on {host} is taken by another process.",
            hint=f"Stop it (`flowforge doctor` names it), or set {variable} to a free port.",
        )
    if error.errno == errno.EACCES:
        return Refused(
            f"Port {port} may not be opened by this user.",
            hint=f"Set {variable} to a port above 1023.",
        )
    return Refused(
        f"Port {port} on {host} cannot be opened: {error.strerror}.",
        hint="Set FLOWFORGE_HOST to an address of this machine.",
    )
