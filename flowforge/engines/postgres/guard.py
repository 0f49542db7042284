"""Keep a program only as long as whoever asked for it lives.

Run as `python -S -E guard.py FOLDER COMMAND...`: starts the command, waits for the end of its own
standard input (the asker closed it, or died, however suddenly), then stops the command and deletes
FOLDER when one was named (`-` for none). Standard library only, so it costs 10 MB and 20 ms.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import threading


def main(folder: str, command: list[str]) -> int:
    """Run `command` until it ends or standard input closes; return its exit status."""
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C reaches the whole terminal; the asker decides
    # A shell that starts a job in the background has it ignore SIGQUIT, and so would the command.
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)

    def stop(*_: object) -> None:
        if child.poll() is None:
            child.send_signal(signal.SIGQUIT)  # PostgreSQL: immediate shutdown

    def watch() -> None:
        sys.stdin.buffer.read()
        stop()

    signal.signal(signal.SIGTERM, stop)
    threading.Thread(target=watch, daemon=True).start()
    status = child.wait()
    if folder != "-":
        shutil.rmtree(folder, ignore_errors=True)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
