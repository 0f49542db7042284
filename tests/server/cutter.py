"""A connection in between that is cut again and again."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tests.ports import free_port


@contextmanager
def cutting(port: int, after_bytes: list[int]) -> Iterator[int]:
    """Pass on what is sent to the port returned; each answer is cut after so many bytes.

    When the list is used up, nothing is cut any more.
    """
    own = free_port()
    listener = socket.create_server(("127.0.0.1", own))
    ended = threading.Event()
    threads: list[threading.Thread] = []

    def serve() -> None:
        while not ended.is_set():
            with contextlib.suppress(OSError):
                asking, _ = listener.accept()
                most = after_bytes.pop(0) if after_bytes else None
                thread = threading.Thread(target=_pass_on, args=(asking, own, port, most))
                thread.start()
                threads.append(thread)

    serving = threading.Thread(target=serve)
    serving.start()
    try:
        yield own
    finally:
        ended.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for thread in (serving, *threads):
            thread.join()


def _pass_on(asking: socket.socket, own: int, port: int, most: int | None) -> None:
    with asking, socket.create_connection(("127.0.0.1", port)) as answering:

        def ask() -> None:
            with contextlib.suppress(OSError):
                while content := asking.recv(65536):
                    # The server answers for its own address only.
                    answering.sendall(content.replace(f":{own}\r".encode(), f":{port}\r".encode()))
                answering.shutdown(socket.SHUT_WR)

        sending = threading.Thread(target=ask)
        sending.start()
        with contextlib.suppress(OSError):
            while content := answering.recv(65536 if most is None else min(most, 65536)):
                asking.sendall(content)
                most = None if most is None else most - len(content)
                if most == 0:
                    break
            asking.shutdown(socket.SHUT_RDWR)
        sending.join()
