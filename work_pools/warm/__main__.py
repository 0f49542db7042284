"""`python -m work_pools.warm SOCKET` is the fork server of a pool.

It imports the libraries once and forks a keeper for every run. It ends when the process that began
it ends, and begins anew when a file it has loaded changed; runs under way go on.
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
    *("prefect.flow_engine", "prefect.task_engine", "prefect.deployments.steps.pull"),
    *("prefect.artifacts", "prefect.variables", "prefect.blocks.notifications"),
    *("prefect._internal.metrics", "psycopg", "sqlalchemy.dialects.postgresql.psycopg"),
    *("sqlalchemy.orm", "pydantic_settings", "isal.igzip", "xxhash"),
)
# An interpreter reads these when it starts, so a run that wants others cannot be forked from here.
START_VARIABLES = (b"PYTHON", b"LD_", b"DYLD_", b"MALLOC_", b"LC_", b"LANG", b"OPENSSL_")
REQUEST_SECONDS = 5
POLL_SECONDS = 1


def serve(path: Path) -> None:
    """Listen until the owner is gone; return only in a run, which has yet to start the engine."""
    owner, began_ns = os.getppid(), time.time_ns()
    listener = listen(path)  # before the slow part: launchers rather wait than start cold
    gc.disable()
    for name in LIBRARIES:
        importlib.import_module(name)
    if sys.platform == "linux" and len(list(Path("/proc/self/task").iterdir())) > 1:
        sys.exit("A library started a thread, which no fork can copy. Runs will start cold.")
    files = {file for module in [*sys.modules.values()] if (file := vars(module).get("__file__"))}
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # keepers report to launchers, not to us
    while os.getppid() == owner:
        try:
            launcher, _ = listener.accept()
            launcher.settimeout(REQUEST_SECONDS)
            folder, umask, variables, streams = read_request(launcher)
        except OSError:  # nobody asked, or whoever did has left
            continue
        if file := next((file for file in files if is_newer(file, began_ns)), None):
            launcher.sendall(f"{file} changed".encode()[:200])
            os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
        if start_variables(variables) != start_variables(dict(os.environb)):
            launcher.sendall(b"it wants an interpreter with other variables")
        elif os.fork() == 0:
            listener.close()
            keep(launcher, streams)
            return enter(folder, umask, variables)
        launcher.close()
        for stream in streams:
            os.close(stream)
    sys.exit(0)


def listen(path: Path) -> socket.socket:
    """Open the socket, for this user alone."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder = path.parent.lstat()
    if path.parent.is_symlink() or folder.st_uid != os.getuid() or folder.st_mode & 0o022:
        sys.exit(f"Others can write to {path.parent}. Set FLOWFORGE_STATE to a folder of your own.")
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    umask = os.umask(0o177)
    listener.bind(str(path))
    os.umask(umask)
    listener.listen(64)
    listener.settimeout(POLL_SECONDS)
    return listener


def is_newer(file: str, began_ns: int) -> bool:
    """Whether a file was written, replaced or removed since."""
    with contextlib.suppress(OSError):
        return Path(file).stat().st_ctime_ns >= began_ns
    return True


def read_request(launcher: socket.socket) -> tuple[bytes, int, dict[bytes, bytes], list[int]]:
    """Take a launcher's folder, umask, variables and streams."""
    head, streams, _, _ = socket.recv_fds(launcher, 8, 3)
    with launcher.makefile("rb") as body:
        folder, umask, *pairs = body.read(int.from_bytes(head, "big")).split(b"\0")
    return folder, int(umask), dict(pair.split(b"=", 1) for pair in pairs), streams


def start_variables(variables: dict[bytes, bytes]) -> dict[bytes, bytes]:
    """The variables that shape an interpreter when it starts."""
    return {name: value for name, value in variables.items() if name.startswith(START_VARIABLES)}


def keep(launcher: socket.socket, streams: list[int]) -> None:
    """Fork the run and tie it to its launcher; return only in the run."""
    os.setsid()  # whoever stops the server's process group does not mean the runs
    launcher.sendall(b"ready")
    if launcher.recv(1) != b"\0":
        os._exit(0)  # it waited too long and started cold
    woken, wake = socket.socketpair()
    wake.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake.fileno())
    keeper = os.getpid()
    if run := os.fork():
        for stream in streams:
            os.close(stream)
        follow(run, launcher, woken)
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
    for inherited in (launcher.detach(), woken.detach(), wake.detach(), *streams):
        os.close(inherited)


def follow(run: int, launcher: socket.socket, woken: socket.socket) -> None:
    """Pass signals on to the run and report how it ended; kill it when its launcher leaves."""
    ended = status = 0
    while not ended:
        ready, _, _ = select.select([launcher, woken], [], [])
        if launcher in ready:
            numbers = launcher.recv(64)
            for number in numbers or [signal.SIGKILL]:
                os.kill(run, number)
            if not numbers:
                break
        if woken in ready:
            woken.recv(64)
        ended, status = os.waitpid(run, os.WNOHANG)
    if not ended or os.WIFSIGNALED(status):  # what it started is not left behind either
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
    gc.enable()
    importlib.import_module("prefect.context").refresh_global_settings_context()
    importlib.import_module("prefect.logging.configuration").setup_logging(incremental=False)
    sys.modules.pop("prefect.engine", None)


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
    # Only runs come here. They end from here as any program does: traceback, exit handlers, flush.
    runpy.run_module("prefect.engine", run_name="__main__", alter_sys=True)
