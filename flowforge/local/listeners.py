"""Sockets a part is reached by, kept open by its supervisor while the part starts again.

Whoever connects meanwhile waits in the queue of the socket and is answered by the next process,
where a port that nobody listens on would refuse them, and a run that is refused fails.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence

VARIABLE = "FLOWFORGE_LISTENERS"
"""Tells a part the descriptors of its sockets, in the order of its addresses."""

_QUEUE = 1024


class Listeners:
    """The sockets of one part."""

    def __init__(self, addresses: Sequence[tuple[str, int]]) -> None:
        self.addresses = tuple(addresses)
        self._open: list[socket.socket] = []

    def open(self) -> tuple[int, ...]:
        """Listen, unless it does already, and return the descriptors to pass on.

        Raises:
            OSError: An address cannot be had; it says which.
        """
        if not self._open:
            try:
                for host, port in self.addresses:
                    self._open.append(_listen(host, port))
            except OSError:
                self.close()
                raise
        return tuple(listener.fileno() for listener in self._open)

    def close(self) -> None:
        """Refuse whoever comes from now on, and whoever still waits."""
        for listener in self._open:
            listener.close()
        self._open.clear()


def told(descriptors: Sequence[int]) -> dict[str, str]:
    """What the environment of the part says about them."""
    return {VARIABLE: ",".join(map(str, descriptors))} if descriptors else {}


def _listen(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_QUEUE)
    except OSError as error:
        listener.close()
        said = os.strerror(error.errno) if error.errno else str(error)
        raise OSError(error.errno, f"port {port} of {host}: {said}") from error
    return listener
