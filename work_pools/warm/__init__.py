"""Warm starts: a run of a local process pool is forked from a process that has Prefect imported.

To the worker, the *launcher* is the run. It hands its folder, variables and streams to the *fork
server*; a *keeper* forked there forks the run and ties it to the launcher, so that signals go down,
the status comes back and neither outlives the other. Only libraries are warm: every run imports
flows, tasks and blocks anew.
"""

import shlex
import sys
from pathlib import Path


def socket_path(pool: str) -> Path:
    """Where the fork server of a pool listens."""
    from flowforge.settings import read_settings  # the server does without

    return read_settings().state.absolute() / "warm" / f"{pool}.sock"


def command(pool: str) -> str:
    """The `command` of a process pool whose runs start warm."""
    launcher = Path(__file__).with_name("launcher.py")
    return shlex.join([sys.executable, "-S", "-E", str(launcher), str(socket_path(pool))])
