"""`flowforge doctor`: looks at everything that can be wrong on this machine, and says what to do.

Each check stands alone and needs nothing to be installed, started or reachable.
"""

from __future__ import annotations

import locale
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import psutil

from flowforge.engines.postgres import identity, installations
from flowforge.engines.sandboxes import local as sandboxes
from flowforge.errors import FlowForgeError, Refused, Unavailable
from flowforge.local import database, health, ports, processes, published, server_api
from flowforge.local.state import StateFolder
from flowforge.settings import Settings

_OLDEST_PYTHON = (3, 11)
_DISK_BYTES = 2_000_000_000
_MEMORY_BYTES = 1_500_000_000
_PINNED = "prefect"
_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")
_CGROUP_USED = Path("/sys/fs/cgroup/memory.current")


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    subject: str
    is_fine: bool
    said: str
    hint: str = ""
    """What to do about it; empty when nothing has to be done."""


def examine(settings: Settings, folder: StateFolder) -> list[Finding]:
    """Look at everything, and never stop at the first thing that is wrong."""
    checks: list[tuple[str, Callable[[], Iterator[Finding]]]] = [
        ("Python", check_python),
        ("packages", check_packages),
        ("locale", check_locale),
        ("PostgreSQL programs", check_programs),
        ("PostgreSQL account", check_account),
        ("sandboxes", check_sandboxes),
        ("disk", lambda: check_disk(folder.path)),
        ("memory", lambda: check_memory(folder)),
        ("state", lambda: check_state(folder)),
        ("databases", lambda: check_databases(folder)),
        ("ports", lambda: check_ports(settings, folder)),
        ("server", lambda: check_server(folder)),
    ]
    findings: list[Finding] = []
    for subject, check in checks:
        try:
            findings += check()
        except FlowForgeError as error:
            findings.append(Finding(subject, False, error.message, error.hint))
        except OSError as error:
            said = f"cannot be looked at: {error.strerror} ({error.filename})"
            hint = "Be the user it belongs to, or set FLOWFORGE_STATE to a folder of your own."
            findings.append(Finding(subject, False, said, hint))
    return findings


def check_python(version: tuple[int, ...] = sys.version_info[:3]) -> Iterator[Finding]:
    """Whether this Python is new enough."""
    said = ".".join(map(str, version))
    if version >= _OLDEST_PYTHON:
        yield Finding("Python", True, f"{said} ({sys.executable})")
        return
    wanted = ".".join(map(str, _OLDEST_PYTHON))
    hint = f"Install Python {wanted} or newer, then `make up PYTHON=/path/to/python{wanted}`."
    yield Finding("Python", False, f"{said} is too old", hint)


def check_packages() -> Iterator[Finding]:
    """Whether Prefect is here, in the one version FlowForge was made for."""
    try:
        found = metadata.version(_PINNED)
        wanted = [r for r in metadata.requires("flowforge") or () if r.startswith(f"{_PINNED}==")]
    except metadata.PackageNotFoundError as error:
        yield Finding("packages", False, f"{error.name} is not installed", "Run `make up`.")
        return
    pin = wanted[0].partition("==")[2].split(";")[0].strip() if wanted else found
    hint = "" if found == pin else "Remove .venv/.ready and run `make up`; it installs the lock."
    yield Finding("packages", found == pin, f"Prefect {found}, made for {pin}", hint)


def check_locale() -> Iterator[Finding]:
    """Whether the locale that is asked for exists, and C.UTF-8 does."""
    asked = os.environ.get("LC_ALL") or os.environ.get("LC_CTYPE") or os.environ.get("LANG") or "C"
    hint = "Set LANG=C.UTF-8; where that is missing too, install the package `locales`."
    missing = [name for name in dict.fromkeys((asked, "C.UTF-8")) if not _has_locale(name)]
    if missing:
        yield Finding("locale", False, f"{', '.join(missing)} does not exist here", hint)
    else:
        yield Finding("locale", True, asked)


def check_programs() -> Iterator[Finding]:
    """Which PostgreSQL programs are here and what they are good for."""
    found = installations.find_installations()
    installations.newest_server()
    for one in found:
        use = f"backs up servers up to {one.major}"
        use += ", can run a server" if one.has_server else ", clients only"
        yield Finding(
            "PostgreSQL programs", True, f"{one.version} ({one.source}, {one.bin}): {use}"
        )


def check_account() -> Iterator[Finding]:
    """Whether there is a way to run PostgreSQL, which refuses to run as root."""
    chosen = identity.choose_identity()
    said = "as yourself" if chosen.kind == "self" else f"you are root; it runs in a {chosen.kind}"
    yield Finding("PostgreSQL account", True, said.replace("in a account", "as account"))


def check_sandboxes() -> Iterator[Finding]:
    """Whether commands of agent jobs can be shut in here, found out by shutting one in."""
    why = sandboxes.why_not()
    if why is not None:
        yield Finding("sandboxes", False, why.message, why.hint)
    else:
        yield Finding("sandboxes", True, "can be made: namespaces, Landlock and limits are there")


def check_disk(state: Path) -> Iterator[Finding]:
    """Whether the state has room to grow and may be written to."""
    place = next(path for path in (state, *state.parents) if path.exists())
    if not os.access(place, os.W_OK | os.X_OK):
        hint = "Set FLOWFORGE_STATE to a folder you may write to."
        yield Finding("disk", False, f"{place} may not be written to", hint)
        return
    free = shutil.disk_usage(place).free
    hint = "Free some, or set FLOWFORGE_STATE to a folder on a larger disk; 2 GB are advised."
    enough = free >= _DISK_BYTES
    said = f"{free / 1e9:.1f} GB free for {state}"
    yield Finding("disk", enough, said, "" if enough else hint)


def check_memory(folder: StateFolder) -> Iterator[Finding]:
    """Whether there is memory for the platform, or how much it uses."""
    run = published.read_run(folder.path)
    if run is not None and run.is_supervised:
        used = sum(health.memory_mb(s.process) for s in run.parts.values() if s.process)
        yield Finding("memory", True, f"the platform uses {used:.0f} MB")
        return
    available = psutil.virtual_memory().available
    try:  # a container may have less than its machine
        limit = int(_CGROUP_LIMIT.read_text()) - int(_CGROUP_USED.read_text())
        available = min(available, limit)
    except (OSError, ValueError):
        pass
    enough = available >= _MEMORY_BYTES
    hint = "" if enough else "The platform needs about 1 GB; end something, or allow more."
    yield Finding("memory", enough, f"{available / 1e9:.1f} GB available", hint)


def check_state(folder: StateFolder) -> Iterator[Finding]:
    """Whether what runs, or ran, is in order."""
    folder.read()
    run = published.read_run(folder.path)
    if run is not None and run.is_supervised:
        for name, seen in run.parts.items():
            if not seen.is_running:
                ended = f", it ended with {seen.exit_status}" if seen.exit_status else ""
                hint = f"Read `flowforge logs {name}`, then run `flowforge up`."
                yield Finding("state", False, f"{name} is {seen.status}{ended}", hint)
        yield Finding("state", True, f"running, supervisor pid {run.supervisor.pid}")
        return
    left = processes.find_marked(processes.folder_mark(folder.path))
    if run is None and not left:
        yield Finding("state", True, f"nothing runs in {folder.path}")
        return
    pids = ", ".join(str(known.pid) for known in left)
    said = "a run was killed" + (f" and left these processes: {pids}" if pids else "")
    hint = "`flowforge up` cleans up and starts again; `flowforge down` only cleans up."
    yield Finding("state", False, said, hint)


def check_databases(folder: StateFolder) -> Iterator[Finding]:
    """Whether the data folder fits the programs that are here."""
    major = database.data_major(folder)
    if major is None:
        yield Finding("databases", True, "none yet")
        return
    chosen = database.choose_installation(folder)
    yield Finding("databases", True, f"of PostgreSQL {major}, run by {chosen.version}")


def check_ports(settings: Settings, folder: StateFolder) -> Iterator[Finding]:
    """Whether each port is ours or free; if not, who has it."""
    state = folder.read()
    run = published.read_run(folder.path)
    ours = run is not None and run.is_supervised
    fixed = {"api": settings.api_port, "ui": settings.ui_port}
    fixed |= {"metrics": settings.metrics_port, "postgres": settings.postgres_port}
    fixed |= {"model": settings.model_port}
    for name, usual in ports.DEFAULTS.items():
        port = fixed[name] or (state.ports.get(name) if state and ours else None) or usual
        address = "127.0.0.1" if name in ("postgres", "model") else settings.host
        if ports.is_free(port, address):
            said = "not taken, though the platform runs" if ours else "free"
            hint = "The part that should listen is down; run `flowforge up`." if ours else ""
            yield Finding("ports", not ours, f"{port} ({name}) is {said}", hint)
        elif ours and _is_ours(port, folder.path):
            yield Finding("ports", True, f"{port} ({name}) is ours")
        else:
            yield _taken(name, port, is_fixed=fixed[name] is not None)


def check_server(folder: StateFolder) -> Iterator[Finding]:
    """Whether the server that answers is of this version."""
    found = health.look(folder)
    if not found.addresses:
        return
    yield Finding(
        "server", found.is_running, found.summary, "" if found.is_running else "`flowforge up`."
    )
    theirs = _prefect_version(found.addresses["api"])
    ours = _installed(_PINNED)
    if theirs is not None and theirs != ours:
        hint = "Run `flowforge down`, then `flowforge up`."
        yield Finding("server", False, f"it is Prefect {theirs}, installed is {ours}", hint)


def _taken(name: str, port: int, *, is_fixed: bool) -> Finding:
    holder = ports.describe_holder(port) or "a process of another user"
    version = _prefect_version(f"http://127.0.0.1:{port}/api")
    what = f", a Prefect server {version}" if version else ""
    hint = f"Stop it, or set {ports.VARIABLES[name]} to another port."
    if not is_fixed:
        hint += " Left alone, `flowforge up` takes the next free one."
    return Finding("ports", False, f"{port} ({name}) is taken by {holder}{what}", hint)


def _is_ours(port: int, folder: Path) -> bool:
    holder = ports.find_holder(port)
    if holder is None:
        return False
    marked = processes.with_descendants(processes.find_marked(processes.folder_mark(folder)))
    return holder.pid in {known.pid for known in marked}


def _prefect_version(api_url: str) -> str | None:
    try:
        status, said = server_api.ask(f"{api_url}/admin/version", timeout_seconds=3)
    except Unavailable:
        return None
    return said if status == 200 and isinstance(said, str) else None


def _installed(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError as error:
        raise Refused(f"{package} is not installed.", hint="Run `make up`.") from error


def _has_locale(name: str) -> bool:
    former = locale.setlocale(locale.LC_CTYPE)
    try:
        locale.setlocale(locale.LC_CTYPE, name)
    except locale.Error:
        return False
    finally:
        locale.setlocale(locale.LC_CTYPE, former)
    return True
