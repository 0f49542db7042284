"""Ports for servers of tests: of each process that shares the tests, its own hundreds.

They lie below those the kernel gives to connections, so that nothing takes one between the moment
it is found free and the moment a server listens on it.
"""

from __future__ import annotations

import itertools
import os
import socket

_FIRST = 20_000
_EACH = 1_000
_process = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 10
_hundreds = range(_FIRST + _EACH * _process, _FIRST + _EACH * (_process + 1))
# Two runs of the tests on one machine should not begin at the same port.
_ours = itertools.islice(itertools.cycle(_hundreds), os.getpid() % _EACH, None)


def free_port() -> int:
    """A port of the loopback interface that nobody listens on, given to nobody else."""
    for port in _ours:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("a cycle of ports does not end")
