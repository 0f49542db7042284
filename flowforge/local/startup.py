"""`flowforge up`: from nothing, or from whatever is there, to a platform that works.

A new supervisor is started and handed its parts while the steps around them run: databases,
ledger, blocks, pools, deployments. Only when all is done is the supervisor let go; until then
Ctrl-C, a crash or `kill -9` of this process takes everything down again. What runs already is
reused; a part of it that is dead is started again.
"""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from flowforge.errors import Unavailable
from flowforge.local import database, ports, session
from flowforge.local.layout import Layout
from flowforge.local.session import Session
from flowforge.local.setup import Setup
from flowforge.local.state import State, StateFolder
from flowforge.local.steps import Progress
from flowforge.settings import Settings


@dataclass(frozen=True)
class Started:
    """A platform that runs."""

    layout: Layout
    is_new: bool
    """Whether it was started now, rather than found running."""


@contextmanager
def running(settings: Settings, progress: Progress) -> Iterator[Started]:
    """Start the platform, or find it running and put right what is not.

    One that was started now is let go at the end of the block. If the block does not end well, it
    is stopped again.

    Raises:
        FlowForgeError: Something failed; what this started was stopped again.
    """
    folder = StateFolder(settings.state.absolute())
    folder.prepare()
    with session.exclusive(folder.path, progress.say):
        state = folder.read() or State()
        layout = _reuse(settings, folder, state, progress)
        if layout is not None:
            yield Started(layout, is_new=False)
            return
        if session.stop_running(folder.path):
            progress.say("ended what ran before")
        layout = _prepare(settings, folder, state, progress)
        own = Session(folder.path, folder.log("supervisor"))
        with _ended_in_order():
            try:
                own.start()
                Setup(layout, state, progress, own).run()
                yield Started(layout, is_new=True)
                state.configuration = layout.digest()
                folder.write(state)
                own.detach()
            except BaseException:
                progress.say("stopping what was started")
                own.stop()
                raise


def _reuse(
    settings: Settings, folder: StateFolder, state: State, progress: Progress
) -> Layout | None:
    found = session.find_supervised(folder.path)
    if found is None or found.is_stopping:
        return None
    layout = describe(settings, folder, state)
    if layout.digest() != state.configuration:
        progress.say("what runs was started with other settings or code; starting it anew")
        return None
    Setup(layout, state, progress, None).heal(found)
    return layout


def _prepare(settings: Settings, folder: StateFolder, state: State, progress: Progress) -> Layout:
    choice = ports.choose_ports(settings.host, _fixed_ports(settings), state.ports)
    for note in choice.notes:
        progress.say(note)
    _empty(folder.temporary)
    if state.socket_folder is not None:
        shutil.rmtree(state.socket_folder, ignore_errors=True)
    state.socket_folder = database.make_socket_folder(folder)
    state.host, state.ports, state.configuration = settings.host, choice.ports, ""
    return _layout(settings, folder, state, choice.ports)


def find_running(settings: Settings, folder: StateFolder) -> Layout:
    """The platform that runs here.

    Raises:
        Unavailable: None does.
    """
    state = folder.read()
    if state is None or session.find_supervised(folder.path) is None:
        raise Unavailable("The platform does not run.", hint="Start it with `flowforge up`.")
    return describe(settings, folder, state)


def describe(settings: Settings, folder: StateFolder, state: State) -> Layout:
    """The platform a state folder holds, at the ports it last had or is now told to have."""
    return _layout(settings, folder, state, _kept_ports(settings, state))


def _layout(
    settings: Settings, folder: StateFolder, state: State, chosen: dict[str, int]
) -> Layout:
    held = State(ports=chosen, socket_folder=state.socket_folder)
    postgres = database.own_postgres(folder, held, folder.read_passwords())
    return Layout(settings, folder, chosen, postgres)


def _fixed_ports(settings: Settings) -> dict[str, int | None]:
    return {
        "api": settings.api_port,
        "ui": settings.ui_port,
        "metrics": settings.metrics_port,
        "model": settings.model_port,
        "postgres": settings.postgres_port,
    }


def _kept_ports(settings: Settings, state: State) -> dict[str, int]:
    fixed = {name: port for name, port in _fixed_ports(settings).items() if port is not None}
    return {**ports.DEFAULTS, **state.ports, **fixed}


def _empty(folder: Path) -> None:
    for entry in folder.iterdir() if folder.is_dir() else ():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)


@contextmanager
def _ended_in_order() -> Iterator[None]:
    """Turn the signals that end a command into exceptions, so that what it started is stopped."""

    def leave(number: int, _: FrameType | None) -> None:
        raise SystemExit(128 + number)

    former = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
