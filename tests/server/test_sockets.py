"""The server takes its ports itself, or serves sockets that somebody else keeps open."""

from __future__ import annotations

import contextlib
import os
import socket

import pytest

from flowforge.errors import Refused
from flowforge.server import sockets
from flowforge.settings import Settings


def test_inherited_sockets_are_served_in_place_of_ports() -> None:
    with contextlib.ExitStack() as stack:
        kept = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(3)]
        numbers = [os.dup(listener.fileno()) for listener in kept]
        taken = sockets.bind(Settings(listeners=",".join(map(str, numbers))))
        for one in (taken.api, taken.ui, taken.metrics):
            stack.enter_context(one)
        assert taken.ports == tuple(listener.getsockname()[1] for listener in kept)
        assert not taken.api.get_inheritable()
        with socket.create_connection(kept[0].getsockname()) as client:
            served, _ = taken.api.accept()
            with served:
                served.sendall(b"here")
                assert client.recv(4) == b"here"


@pytest.mark.parametrize("listeners", ["999,998,997", "a,b,c", "999"])
def test_sockets_that_were_not_inherited_are_refused(listeners: str) -> None:
    with pytest.raises(Refused) as caught:
        sockets.bind(Settings(listeners=listeners))
    assert "FLOWFORGE_LISTENERS" in str(caught.value)
