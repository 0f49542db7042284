"""Stand in for `python -m prefect.engine`: have the fork server start it, then be that process.

Signals are passed on, and this process ends as the run ends. Without a server it is the stock run.
"""

import contextlib
import os
import signal
import socket
import sys

RELAYED = [getattr(signal, "SIG" + name) for name in ("TERM", "INT", "HUP", "QUIT", "USR1", "USR2")]
ORPHAN_SECONDS = 10  # a run whose worker is gone ends within this, or is killed


def main(path: str) -> None:
    """Start the run and stay until it has ended."""
    signal.pthread_sigmask(signal.SIG_BLOCK, RELAYED)
    try:
        keeper = ask(path)
    except OSError as error:
        sys.stderr.write(f"FlowForge starts this run cold: {error.strerror or error} ({path})\n")
        signal.pthread_sigmask(signal.SIG_UNBLOCK, RELAYED)
        os.execv(sys.executable, [sys.executable, "-m", "prefect.engine"])
    for number in (n for n in RELAYED if signal.getsignal(n) != signal.SIG_IGN):
        signal.signal(number, lambda number, _: keeper.sendall(bytes([number])))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, RELAYED)
    status = follow(keeper)
    if not os.WIFSIGNALED(status):
        sys.exit(os.WEXITSTATUS(status))
    if os.WTERMSIG(status) != signal.SIGKILL:
        signal.signal(os.WTERMSIG(status), signal.SIG_DFL)
    os.kill(os.getpid(), os.WTERMSIG(status))


def ask(path: str) -> socket.socket:
    """Hand over this process's place in the world; any OSError means that nothing was started."""
    server = socket.socket(socket.AF_UNIX)
    server.settimeout(20)  # one that is still importing answers within this
    folder = os.getcwd()  # noqa: PTH109 - pathlib would double the time to start
    os.chdir(os.path.dirname(path))  # noqa: PTH120 - a socket's whole path may be too long
    try:
        server.connect(os.path.basename(path))  # noqa: PTH119
    finally:
        os.chdir(folder)
    os.umask(umask := os.umask(0o077))
    variables = (b"%b=%b" % pair for pair in os.environb.items())
    request = b"\0".join([os.fsencode(folder), b"%d" % umask, *variables])
    server.sendall(len(request).to_bytes(8, "big") + request)
    answer = server.recv(200)
    if answer != b"ready":
        raise OSError(answer.decode() or "the fork server went away")
    socket.send_fds(server, [b"\0"], [0, 1, 2])  # from here on there is a run, and never two
    return server


def follow(keeper: socket.socket) -> int:
    """Wait for the run and return its wait status; when the worker is gone, end the run."""
    worker, patience_seconds = os.getppid(), 0.5
    run = int.from_bytes(keeper.recv(4), "big")
    while True:
        keeper.settimeout(patience_seconds)
        try:
            if status := keeper.recv(4):
                return int.from_bytes(status, "big")
            break  # the keeper was killed
        except OSError:  # no news, or a signal came when the run had just ended
            if patience_seconds == ORPHAN_SECONDS:
                break
            if os.getppid() != worker:
                keeper.sendall(bytes([signal.SIGTERM]))  # the run reports that it crashed
                patience_seconds = ORPHAN_SECONDS
    with contextlib.suppress(ProcessLookupError):
        os.killpg(run or os.getpid(), signal.SIGKILL)
    return signal.SIGKILL


if __name__ == "__main__":
    main(sys.argv[1])
