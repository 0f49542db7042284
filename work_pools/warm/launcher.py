"""Stand in for `python -m prefect.engine`: have the fork server start it, then be that process.

Run as `python -S -E launcher.py SOCKET`. Signals are passed on to the run, and this process ends as
the run ended. Without a server it becomes the stock command.
"""

import contextlib
import os
import signal
import socket
import sys
from types import FrameType

RELAYED = [getattr(signal, "SIG" + name) for name in ("TERM", "INT", "HUP", "QUIT", "USR1", "USR2")]
ANSWER_SECONDS = 20  # a server that is still importing answers within this
POLL_SECONDS = 0.5
ORPHAN_SECONDS = 10


def main(path: str) -> None:
    """Start the run and stay until it has ended."""
    signal.pthread_sigmask(signal.SIG_BLOCK, RELAYED)
    try:
        keeper = ask(path)
    except OSError as error:
        sys.stderr.write(f"FlowForge starts this run cold: {error.strerror or error} ({path})\n")
        sys.stderr.flush()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, RELAYED)
        os.execv(sys.executable, [sys.executable, "-m", "prefect.engine"])

    def relay(number: int, _: FrameType | None) -> None:
        with contextlib.suppress(OSError):  # it has just ended
            keeper.sendall(bytes([number]))

    for number in RELAYED:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, relay)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, RELAYED)
    status = follow(keeper)
    if not os.WIFSIGNALED(status):
        sys.exit(os.WEXITSTATUS(status))
    if os.WTERMSIG(status) != signal.SIGKILL:
        signal.signal(os.WTERMSIG(status), signal.SIG_DFL)
    os.kill(os.getpid(), os.WTERMSIG(status))


def ask(path: str) -> socket.socket:
    """Hand over this process's place in the world; return the line to the run's keeper.

    Raises:
        OSError: Nothing was started, and nothing will be.
    """
    server = socket.socket(socket.AF_UNIX)
    server.settimeout(ANSWER_SECONDS)
    server.connect(path)
    os.umask(umask := os.umask(0o077))
    variables = [b"%b=%b" % pair for pair in os.environb.items()]
    request = b"\0".join([os.fsencode(os.getcwd()), b"%d" % umask, *variables])  # noqa: PTH109
    socket.send_fds(server, [len(request).to_bytes(8, "big")], [0, 1, 2])
    server.sendall(request)
    answer = server.recv(200)
    if answer != b"ready":
        raise OSError(answer.decode() or "the fork server went away")
    server.sendall(b"\0")  # from here on there is a run, and never a second one
    return server


def follow(keeper: socket.socket) -> int:
    """Wait for the run and return its wait status; when the worker is gone, end the run."""
    worker, orphan_seconds = os.getppid(), 0.0
    keeper.settimeout(POLL_SECONDS)
    while orphan_seconds < ORPHAN_SECONDS:
        try:
            status = keeper.recv(4)
            return int.from_bytes(status, "big") if status else signal.SIGKILL
        except TimeoutError:
            if os.getppid() != worker:
                if not orphan_seconds:
                    keeper.sendall(bytes([signal.SIGTERM]))  # the run reports that it crashed
                orphan_seconds += POLL_SECONDS
    return signal.SIGKILL  # and the keeper kills the run


if __name__ == "__main__":
    main(sys.argv[1])
