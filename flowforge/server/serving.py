"""Run one application on several sockets in one event loop, until told to stop.

uvicorn's own signal handling would end the process from within its first server; here the loop's
handlers ask all of them to finish, and the exit status stays ours.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import Coroutine, Iterator, Sequence
from typing import Any

import uvicorn
from starlette.types import ASGIApp

_GRACE_SECONDS = 2

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
    log.info("stopping")
    for server in servers:
        server.should_exit = True
    for task in (stopping, *beside):
        task.cancel()
    await asyncio.wait(serving)
    await asyncio.gather(stopping, *beside, return_exceptions=True)
    for task in done - {stopping}:
        task.result()


def _configure(application: ASGIApp) -> uvicorn.Config:
    return uvicorn.Config(
        application,
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )
