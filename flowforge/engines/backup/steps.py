"""The named steps of a backup and a restore, and a way to die at each of them.

Tests set `FLOWFORGE_KILL_AT` to a step's name: the process then kills itself the moment it gets
there, as a node loss would. Nothing else reads the variable, and unset it costs one look-up.
"""

from __future__ import annotations

import os
import signal

BACKUP = (
    "lock",
    "table-locks",
    "snapshot",
    "upload-open",
    "first-chunk",
    "children-exit",
    "complete",
    "head",
    "manifest",
    "read-back",
    "proof",
)
MIRROR = ("mirror-data", "mirror-beside", "mirror-manifest")
FORGET = ("decide", "manifest-delete", "data-delete")
RESTORE = (
    "side-create",
    "pre",
    "members",
    "post",
    "load",
    "compare",
    "settings",
    "close-live",
    "swap",
)
RESTORE_CLONE = ("side-create", "load", "compare", "mask", "settings", "swap")
RESTORE_TABLES = ("side-create", "pre", "members", "post", "move", "tables")


def reached(step: str) -> None:
    """Say that a step is done; die here when a test asked for it."""
    if os.environ.get("FLOWFORGE_KILL_AT") == step:
        os.kill(os.getpid(), signal.SIGKILL)
