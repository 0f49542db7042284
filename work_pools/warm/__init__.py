"""Warm starts: a run of a local process pool is forked from a process that has Prefect imported.

The *launcher* stands in for `python -m prefect.engine` towards the worker. It hands its folder,
variables and streams to the *fork server*, which forks a *keeper*; that forks the run and ties it
to its launcher: signals go down, the status comes back, and neither outlives the other. The server
holds libraries only: flows, tasks and blocks are imported anew by every run.
"""

import hashlib
import os
import shlex
import sys
from pathlib import Path


def socket_path(pool: str) -> Path:
    """Where the fork server of a pool listens: in the state folder, or in a shorter one."""
    from flowforge.settings import read_settings  # the server does without

    state = read_settings().state.absolute()
    path = state / "warm" / f"{pool}.sock"
    if len(os.fsencode(path)) <= 100:  # the system's limit is 104 on macOS and 108 on Linux
        return path
    key = hashlib.sha256(os.fsencode(state)).hexdigest()[:16]
    return Path("/tmp") / f"flowforge-{os.getuid()}-{key}" / f"{pool}.sock"


def command(pool: str) -> str:
    """The `command` of a process pool whose runs start warm."""
    launcher = Path(__file__).with_name("launcher.py")
    return shlex.join([sys.executable, "-S", "-E", str(launcher), str(socket_path(pool))])
