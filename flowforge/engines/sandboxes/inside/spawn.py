"""A new process behind all walls: it becomes a command, or does one thing with files."""

from __future__ import annotations

import itertools
import os
import resource
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from . import frames, system, walls

Operation = Callable[[Mapping[str, Any], int], None]
"""Reads standard input and writes standard output; gets the request and the workspace's folder."""

CANNOT_RUN = 126
NOT_FOUND = 127
_LAST_TO_BE_SAVED = "1000"
_KINDNESS = 5
_MOST_OPEN = 65_536


class Refused(Exception):
    """An operation that cannot be done as asked; the text is the reason."""


@dataclass(frozen=True)
class Bounds:
    """What one process may use, in bytes and pieces; `None` where something else bounds it."""

    processes: int
    files: int
    file_bytes: int
    address_bytes: int | None
    open_files: int = 4096


@dataclass(frozen=True)
class Place:
    """What every process of a sandbox is given."""

    folder: int
    """The workspace, opened."""

    rules: int | None
    """Of Landlock; a container is a wall itself and may do without."""

    bounds: Bounds
    environment: Mapping[str, str]
    operations: Mapping[str, Operation]


def become(place: Place, request: Mapping[str, Any], standard_in: int, out: int) -> NoReturn:
    """Turn this freshly forked process into what was asked for. It never returns."""
    try:
        os.setsid()
        os.dup2(standard_in, 0)
        os.dup2(out, 1)
        os.dup2(out, 2)
        _close_all_but(place)
        for number in (signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        _be_first_to_go()
        _bound(place.bounds, int(request["cpu_seconds"]))
        if place.rules is not None:
            walls.enter(place.rules)
        operation = place.operations.get(request["do"])
        if operation is None:
            _execute(place, request)
        else:
            _operate(operation, place, request)
    except OSError as error:
        _say(f"sandbox: {error.filename or ''}: {error.strerror}\n")
    finally:
        os._exit(CANNOT_RUN)


def _execute(place: Place, request: Mapping[str, Any]) -> None:
    folder = (request.get("cwd") or ".").rstrip("/").encode(errors="surrogateescape")
    try:
        flags = os.O_RDONLY | os.O_DIRECTORY
        os.fchdir(system.open_beneath(folder, flags, folder=place.folder))
    except OSError as error:
        _say(f"{request['cwd']}: {error.strerror}\n")
        os._exit(CANNOT_RUN)
    argv = request["argv"]
    try:
        os.execvpe(argv[0], argv, {**place.environment, **request.get("env", {})})
    except OSError as error:
        _say(f"{argv[0]}: {error.strerror}\n")
        missing = isinstance(error, FileNotFoundError)
        os._exit(NOT_FOUND if missing else CANNOT_RUN)


def _operate(operation: Operation, place: Place, request: Mapping[str, Any]) -> None:
    try:
        operation(request, place.folder)
    except Refused as refused:
        _say(str(refused))
        os._exit(frames.REFUSED)
    os._exit(0)


def _close_all_but(place: Place) -> None:
    """Close the way to the brain, and pipes that would never end for who reads them."""
    kept = sorted({2, place.folder, place.rules or 2, _MOST_OPEN})
    for before, after in itertools.pairwise(kept):
        os.closerange(before + 1, after)


def _be_first_to_go() -> None:
    """When memory runs out, the kernel shall end this and not the keeper, nor the brain."""
    system.set_dumpable(yes=True)  # else the file belongs to root
    descriptor = os.open("/proc/self/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC)
    os.write(descriptor, _LAST_TO_BE_SAVED.encode())
    os.close(descriptor)
    system.set_dumpable(yes=False)  # a command becomes what it may be when it is executed
    os.nice(_KINDNESS)


def _bound(bounds: Bounds, cpu_seconds: int) -> None:
    limits = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_CPU: cpu_seconds,
        resource.RLIMIT_FSIZE: bounds.file_bytes,
        resource.RLIMIT_NOFILE: bounds.open_files,
        resource.RLIMIT_NPROC: bounds.processes,
    }
    if bounds.address_bytes is not None:
        limits[resource.RLIMIT_AS] = bounds.address_bytes
    for kind, most in limits.items():
        _, hard = resource.getrlimit(kind)
        allowed = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (allowed, allowed))


def _say(text: str) -> None:
    os.write(1, text.encode(errors="surrogateescape"))
