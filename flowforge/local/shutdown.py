"""`flowforge down`: stop everything in order; keep the data, or forget it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from flowforge.local import session
from flowforge.local.state import StateFolder


def stop(folder: StateFolder, say: Callable[[str], None], *, forget: bool = False) -> bool:
    """Stop the platform; return whether anything had run.

    Args:
        folder: Its state.
        say: Told what is going on.
        forget: Delete all data too: databases, copies, logs, passwords.

    Raises:
        Refused: The folder is not one of ours, or of a newer FlowForge.
        Unavailable: Something could not be ended.
    """
    if not folder.path.is_dir():
        return session.clean_up(folder.path)
    state = folder.read()
    if state is None:
        if forget:
            folder.forget()  # refuses, and says why
        return session.clean_up(folder.path)
    with session.exclusive(folder.path, say):
        stopped = session.stop_running(folder.path)
        if state.socket_folder is not None:
            shutil.rmtree(Path(state.socket_folder), ignore_errors=True)
        state.supervisor_pid, state.socket_folder = None, None
        folder.write(state)
        if forget:
            folder.forget()
    return stopped
