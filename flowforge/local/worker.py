"""`python -m flowforge.local.worker POOL`: the worker of a local pool.

It begins by marking as crashed what the pool's last worker left under way: that worker was killed,
or the whole platform, and nobody else would ever end those runs. Then it becomes Prefect's worker.
"""

from __future__ import annotations

import os
import sys
import time

from flowforge.errors import Unavailable
from flowforge.local import server_api

_AGAIN_SECONDS = 1.0


def main(pool: str) -> None:
    """Settle what was lost, then be the worker; waits as long as there is no server to ask."""
    if lost := _settle(os.environ["PREFECT_API_URL"], pool):
        _say(f"runs that had lost their process are marked crashed: {lost}")
    command = [sys.executable, "-m", "prefect", "worker", "start", "--type", "process"]
    os.execv(sys.executable, [*command, "--pool", pool, "--name", f"local-{pool}"])


def _settle(api_url: str, pool: str) -> int:
    trouble = ""
    while True:
        try:
            return server_api.settle_lost_runs(api_url, pool)
        except Unavailable as error:
            if error.message != trouble:
                _say(f"{error.message} Waiting for it.")
            trouble = error.message
        time.sleep(_AGAIN_SECONDS)


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    main(sys.argv[1])
