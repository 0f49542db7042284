"""How the platform is right now: what runs, whether the server answers, what is protected."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, field

import psutil

from flowforge.errors import Unavailable
from flowforge.local import processes, published, server_api
from flowforge.local.published import Seen
from flowforge.local.state import State, StateFolder

_ANSWER_SECONDS = 3.0


@dataclass(frozen=True)
class PartHealth:
    """One part as `status` shows it."""

    name: str
    status: str
    pid: int | None
    restarts: int
    since_seconds: float
    memory_mb: float
    """With everything it started: its share of memory where the system tells, else resident."""

    note: str = ""


@dataclass(frozen=True)
class Health:
    """The whole platform."""

    is_running: bool
    """Whether everything runs and the server takes a write."""

    summary: str
    parts: tuple[PartHealth, ...] = ()
    addresses: dict[str, str] = field(default_factory=dict)
    databases: tuple[dict[str, object], ...] = ()


def look(folder: StateFolder) -> Health:
    """Look at everything.

    Raises:
        Refused: The state is of a newer FlowForge.
    """
    state = folder.read()
    if state is None:
        return Health(False, "Nothing was ever started here; `flowforge up` does.")
    run = published.read_run(folder.path)
    if run is None:
        return Health(False, "Not running; `flowforge up` starts it.")
    parts = tuple(_part(name, seen) for name, seen in run.parts.items())
    if not run.is_supervised:
        return Health(
            False, "Its supervisor was killed; `flowforge up` cleans up and starts it again.", parts
        )
    host = "127.0.0.1" if state.host in ("0.0.0.0", "::", "") else state.host
    addresses = list_addresses(host, state)
    ready, why = _readiness(addresses["api"])
    sick = [part.name for part in parts if part.status != published.RUNNING]
    summary = "Everything runs."
    if sick:
        summary = f"Not running: {', '.join(sick)}; `flowforge up` starts them again."
    elif not ready:
        summary = f"The server does not take writes: {why}; see `flowforge logs server`."
    databases = _databases(addresses["api"]) if ready else ()
    return Health(ready and not sick, summary, parts, addresses, databases)


def list_addresses(host: str, state: State) -> dict[str, str]:
    """Where a person or a program goes."""
    host = f"[{host}]" if ":" in host else host
    ports = state.ports
    return {
        "ui": f"http://{host}:{ports['ui']}",
        "api": f"http://{host}:{ports['api']}/api",
        "metrics": f"http://{host}:{ports['metrics']}/metrics",
        "postgres": f"127.0.0.1:{ports['postgres']}",
    }


def memory_mb(process: processes.Known) -> float:
    """Memory of a process and all it started, in megabytes, shared pages shared out."""
    total = 0
    for known in processes.with_descendants([process]):
        with contextlib.suppress(psutil.Error):
            total += _share(psutil.Process(known.pid))
    return total / 1e6


def _share(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().pss)
    except (AttributeError, psutil.AccessDenied):  # only Linux shares pages out
        return int(process.memory_info().rss)


def _part(name: str, seen: Seen) -> PartHealth:
    status = seen.status
    if status == published.RUNNING and not seen.is_running:
        status = "dead"
    ended = "" if seen.exit_status is None else f"ended with {seen.exit_status} before"
    return PartHealth(
        name=name,
        status=status,
        pid=seen.process.pid if seen.process is not None else None,
        restarts=seen.restarts,
        since_seconds=max(time.time() - seen.since, 0.0),
        memory_mb=round(memory_mb(seen.process), 1) if seen.process is not None else 0.0,
        note=ended,
    )


def _readiness(api_url: str) -> tuple[bool, str]:
    try:
        status, body = server_api.ask(
            api_url.removesuffix("/api") + "/ready", timeout_seconds=_ANSWER_SECONDS
        )
    except Unavailable as error:
        return False, error.message
    said = body.get("reason") if isinstance(body, dict) else None
    return status == 200, str(said or f"it answered {status}")


def _databases(api_url: str) -> tuple[dict[str, object], ...]:
    try:
        status, body = server_api.ask(
            api_url.removesuffix("/api") + "/ff/v1/status", timeout_seconds=_ANSWER_SECONDS
        )
    except Unavailable:
        return ()
    if status != 200 or not isinstance(body, dict):
        return ()
    found = body.get("databases")
    return tuple(entry for entry in found or () if isinstance(entry, dict))
