"""`python -m flowforge.server`: take the ports, prepare Prefect, serve until told to stop."""

from __future__ import annotations

import asyncio
import logging
import os
import sys

from flowforge.errors import FlowForgeError
from flowforge.server import environment, sockets
from flowforge.settings import Settings, read_settings

log = logging.getLogger("flowforge.server")


def main() -> int:
    """Serve; return the exit status."""
    logging.basicConfig(
        level=logging.WARNING, format="%(asctime)s | %(levelname)-7s | %(name)s - %(message)s"
    )
    logging.getLogger("flowforge").setLevel(logging.INFO)
    try:
        settings = read_settings()
        taken = sockets.bind(settings)
        os.environ.update(environment.prefect_environment(settings, os.environ))
        asyncio.run(_run(settings, taken))
    except FlowForgeError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


async def _run(settings: Settings, taken: sockets.Sockets) -> None:
    # Prefect reads its environment while it is imported, so not a moment earlier than here.
    from flowforge.server.assembly import open_platform

    async with open_platform(settings, taken) as serving:
        log.info("serving on ports %s", ", ".join(map(str, taken.ports)))
        await serving


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # A thread may still wait for a database that never answers; nothing is left to be saved.
    os._exit(status)
