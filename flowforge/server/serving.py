"""Run one application on several sockets in one event loop, until told to stop.

uvicorn's own signal handling would end the process from within its first server; here the loop's
handlers ask all of them to finish, and the exit status stays ours.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import threading
from collections.abc import Coroutine, Iterator, Sequence
from typing import Any

import uvicorn
from starlette.types import ASGIApp

_GRACE_SECONDS = 2
_PATIENCE_SECONDS = 5.0

log = logging.getLogger("flowforge.server")


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the loop."""
        yield


async def serve(
    applications: Sequence[tuple[ASGIApp, socket.socket]],
    companions: Sequence[Coroutine[Any, Any, None]],
) -> None:
    """Serve each application on its socket, and run the companions beside them.

    Ends when SIGTERM or SIGINT comes. A companion that fails ends the server with its error:
    better restarted than half alive.

    Args:
        applications: What to serve, and where.
        companions: Work that goes on as long as the server does.
    """
    servers = [_Server(_configure(application)) for application, _ in applications]
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    serving = [
        asyncio.create_task(server.serve(sockets=[taken]))
        for server, (_, taken) in zip(servers, applications, strict=True)
    ]
    beside = [asyncio.create_task(companion) for companion in companions]
    stopping = asyncio.create_task(stop.wait())
    done, _ = await asyncio.wait([stopping, *serving, *beside], return_when=asyncio.FIRST_COMPLETED)
    ended = [task for task in done if task is not stopping]
    log.info("stopping")
    _exit_within(_PATIENCE_SECONDS, status=1 if ended else 0)
    for server in servers:
        server.should_exit = True
    for task in (stopping, *beside):
        task.cancel()
    await asyncio.wait(serving)
    await asyncio.gather(stopping, *beside, return_exceptions=True)
    for task in ended:
        task.result()


def _exit_within(seconds: float, status: int) -> None:
    """End the process even if something never ends, such as a wait for a frozen database."""

    def give_up() -> None:
        log.warning("stopped without waiting for what did not end in %.0f s", seconds)
        os._exit(status)

    timer = threading.Timer(seconds, give_up)
    timer.daemon = True
    timer.start()


def _configure(application: ASGIApp) -> uvicorn.Config:
    return uvicorn.Config(
        application,
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )
