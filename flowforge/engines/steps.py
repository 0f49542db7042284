"""A way to die at a named step.

Tests set `FLOWFORGE_KILL_AT` to a step's name: the process then kills itself the moment it gets
there, as a node loss would. Nothing else reads the variable, and unset it costs one look-up.
"""

from __future__ import annotations

import os
import signal


def reached(step: str) -> None:
    """Say that a step is done; die here when a test asked for it."""
    if os.environ.get("FLOWFORGE_KILL_AT") == step:
        os.kill(os.getpid(), signal.SIGKILL)
