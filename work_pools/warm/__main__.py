"""`python -m work_pools.warm SOCKET` is the fork server of a pool.

It imports the libraries once and forks a keeper for every run. It ends with the process that began
it, and begins anew when a file it has loaded changed; runs under way go on.
"""

import contextlib
import ctypes
import gc
import importlib
import os
import runpy
import select
import signal
import socket
import sys
import time
from pathlib import Path

LIBRARIES = (
    *("prefect.flow_engine", "prefect.task_engine", "prefect.deployments.steps.pull", "psycopg"),
    *("prefect.artifacts", "prefect.variables", "prefect.blocks.notifications", "pydantic.v1"),
    *("prefect._internal.metrics", "anyio._backends._asyncio", "isal.igzip", "xxhash"),
    *("sqlalchemy.dialects.postgresql.psycopg", "pydantic_settings"),
)
LIBRARIES_OF = {
    "flowforge-workers": (
        *("anthropic.resources.messages", "anthropic.resources.beta.messages"),
        *("anthropic.lib.streaming", "httpx2", "sqlalchemy.ext.asyncio"),
    )
}
"""What the runs of one pool need besides: a second and more of every agent job's start."""

# An interpreter reads these when it starts, so a run that wants others cannot be forked from here.
START_VARIABLES = (b"PYTHON", b"LD_", b"DYLD_", b"MALLOC_", b"LC_", b"LANG", b"OPENSSL_")
Place = tuple[bytes, int, dict[bytes, bytes]]  # folder, umask and variables of a process


def serve(path: Path) -> Place:
    """Listen until the owner is gone; return only in a run, with the place it has to take."""
    owner, began_ns = os.getppid(), time.time_ns()
    listener = listen(path)  # before the slow part: launchers rather wait than start cold
    for name in (*LIBRARIES, *LIBRARIES_OF.get(path.stem, ())):
        importlib.import_module(name)
    if sys.platform == "linux" and len(list(Path("/proc/self/task").iterdir())) > 1:
        sys.exit("A library started a thread, which no fork can copy. Runs will start cold.")
    files = {Path(file) for m in [*sys.modules.values()] if (file := vars(m).get("__file__"))}
    started_with = {b"%b=%b" % v for v in os.environb.items() if v[0].startswith(START_VARIABLES)}
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # keepers report to launchers, not to us
    while os.getppid() == owner:
        try:
            launcher, _ = listener.accept()
            launcher.settimeout(5)
            with launcher.makefile("rb") as stream:
                request = stream.read(int.from_bytes(stream.read(8), "big"))
            folder, umask, *pairs = request.split(b"\0")
            for file in files:
                if not file.exists() or file.stat().st_ctime_ns >= began_ns:
                    launcher.sendall(f"{file} changed".encode()[:200])
                    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
            if {pair for pair in pairs if pair.startswith(START_VARIABLES)} != started_with:
                launcher.sendall(b"it wants an interpreter with other variables")
            elif os.fork() == 0:
                listener.close()
                keep(launcher)
                return folder, int(umask), dict(pair.split(b"=", 1) for pair in pairs)
            launcher.close()
        except (OSError, ValueError):  # nobody asked, or whoever did has left
            continue
    sys.exit(0)


def listen(path: Path) -> socket.socket:
    """Open the socket, for this user alone."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    os.chdir(path.parent)  # a socket's whole path may be too long
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path.name)
    path.chmod(0o600)
    listener.listen(64)
    listener.settimeout(1)  # how often to look for the owner
    return listener


def keep(launcher: socket.socket) -> None:
    """Fork the run and tie it to its launcher; return only in the run."""
    os.setsid()  # whoever stops the server's process group does not mean the runs
    launcher.sendall(b"ready")
    go, streams, _, _ = socket.recv_fds(launcher, 1, 3)
    if not go:
        os._exit(0)  # it waited too long and started cold
    woken, wake = socket.socketpair()
    wake.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake.fileno())
    keeper = os.getpid()
    if run := os.fork():
        follow(run, launcher, woken, streams)
        os._exit(0)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: die with the keeper
        if os.getppid() != keeper:
            os._exit(1)
    os.setsid()
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    for descriptor in (launcher.detach(), woken.detach(), wake.detach(), *streams):
        os.close(descriptor)


def follow(run: int, launcher: socket.socket, woken: socket.socket, streams: list[int]) -> None:
    """Pass signals on to the run and report how it ended; kill it when its launcher leaves."""
    for stream in streams:
        os.close(stream)
    launcher.sendall(run.to_bytes(4, "big"))
    ended = status = 0
    while not ended:
        ready, _, _ = select.select([launcher, woken], [], [])
        if woken in ready:
            woken.recv(64)
        if launcher in ready:
            for number in launcher.recv(64) or [signal.SIGKILL]:
                os.kill(run, number)
        ended, status = os.waitpid(run, os.WNOHANG)
    if os.WIFSIGNALED(status):  # what it started is not left behind either
        with contextlib.suppress(ProcessLookupError):
            os.killpg(run, signal.SIGKILL)
    with contextlib.suppress(OSError):
        launcher.sendall(status.to_bytes(4, "big"))


def enter(folder: bytes, umask: int, variables: dict[bytes, bytes]) -> None:
    """Take the launcher's place and read Prefect's settings anew."""
    os.environb.clear()
    os.environb.update(variables)
    time.tzset()
    os.umask(umask)
    os.chdir(folder)
    sys.path[0], sys.argv[1:] = str(Path.cwd()), []
    importlib.invalidate_caches()
    importlib.import_module("prefect.context").refresh_global_settings_context()
    importlib.import_module("prefect.logging.configuration").setup_logging(incremental=False)
    sys.modules.pop("prefect.engine", None)


if __name__ == "__main__":
    enter(*serve(Path(sys.argv[1]).absolute()))
    # Only runs come here. They end from here as any program does: traceback, exit handlers, flush.
    runpy.run_module("prefect.engine", run_name="__main__", alter_sys=True)
