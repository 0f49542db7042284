"""`python -m flowforge.twin.model --port N`: the rehearsal model as a process of its own."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal

from flowforge.twin.model.server import BATCH_SECONDS, serve

log = logging.getLogger("flowforge.twin.model")


async def run(port: int, batch_seconds: float) -> None:
    """Serve until SIGTERM or SIGINT."""
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for one in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(one, told.set)
    async with serve(port, batch_seconds=batch_seconds) as server:
        log.info("The rehearsal model listens on %s", server.url)
        await told.wait()


def main(arguments: list[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m flowforge.twin.model", description=__doc__)
    parser.add_argument("--port", type=int, required=True, help="on loopback; 0 takes a free one")
    parser.add_argument(
        "--batch-seconds", type=float, default=BATCH_SECONDS, help="how long a batch takes"
    )
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    asyncio.run(run(options.port, options.batch_seconds))


if __name__ == "__main__":
    main()
