"""The platform on this machine: up, down, logs, open, doctor, tour.

Nothing here imports Prefect, so all of it answers at once and works when nothing runs.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from flowforge import terminal
from flowforge.errors import Unavailable
from flowforge.settings import Settings, read_settings
from flowforge.terminal import JsonFlag

if TYPE_CHECKING:
    from flowforge.local.layout import Layout
    from flowforge.local.state import StateFolder
    from flowforge.local.tour import Tour


def register(app: typer.Typer) -> None:
    """Add these commands."""
    for command in (up, down, logs, open_, doctor, tour):
        app.command(name=command.__name__.rstrip("_"))(command)


def up(
    no_tour: Annotated[bool, typer.Option("--no-tour", help="only start, run nothing")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Start everything here, run the tour, print the evidence."""
    from flowforge.local import progress, startup
    from flowforge.local import tour as tours

    settings, folder = read()
    with (
        disk_errors(),
        progress.show(terminal.err) as shown,
        startup.running(settings, shown) as started,
    ):
        last = tours.read_last(folder)
        if not no_tour and (started.is_new or last is None or last.failed):
            last = tours.take(started.layout, shown)
    _print_platform(started.layout, last, is_new=started.is_new, as_json=as_json)
    if last is not None and last.failed and not no_tour:
        raise typer.Exit(1)


def down(
    forget: Annotated[
        bool, typer.Option("--forget", help="delete databases, copies and logs too")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Stop everything; data stays."""
    from flowforge.local import shutdown

    _, folder = read()
    with disk_errors():
        stopped = shutdown.stop(folder, _say, forget=forget)
    if as_json:
        terminal.print_json({"stopped": stopped, "forgotten": forget})
        return
    said = "Stopped." if stopped else "Nothing was running."
    kept = f"Everything in {folder.path} is deleted." if forget else f"Data stays in {folder.path}."
    terminal.out.print(f"{said} {kept}", markup=False)


def logs(
    part: Annotated[
        str | None, typer.Argument(help="a part that `flowforge status` shows; by default all")
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="go on until Ctrl-C")] = False,
) -> None:
    """Show the end of the logs."""
    from flowforge.local import logs as log_files

    _, folder = read()
    with disk_errors():
        log_files.show(log_files.find(folder, part), _write, follow=follow)


def open_() -> None:
    """Open the UI in a browser."""
    import webbrowser

    from flowforge.local import health

    _, folder = read()
    found = health.look(folder)
    if "ui" not in found.addresses:
        raise Unavailable(found.summary, hint="Start it with `flowforge up`.")
    terminal.out.print(found.addresses["ui"], markup=False)
    webbrowser.open(found.addresses["ui"])


def doctor(as_json: JsonFlag = False) -> None:
    """Explain what is wrong on this machine, and what helps."""
    from dataclasses import asdict

    from flowforge.local import doctor as examination

    settings, folder = read()
    findings = examination.examine(settings, folder)
    fine = all(finding.is_fine for finding in findings)
    if as_json:
        terminal.print_json({"fine": fine, "findings": [asdict(finding) for finding in findings]})
    else:
        for finding in findings:
            mark = "ok  " if finding.is_fine else "BAD "
            terminal.out.print(f"{mark} {finding.subject}: {finding.said}", markup=False)
            if finding.hint:
                terminal.out.print(f"     -> {finding.hint}", markup=False)
    if not fine:
        raise typer.Exit(1)


def tour(as_json: JsonFlag = False) -> None:
    """Run every operation once and print the evidence."""
    from flowforge.local import progress, startup
    from flowforge.local import tour as tours

    settings, folder = read()
    with disk_errors(), progress.show(terminal.err) as shown:
        taken = tours.take(startup.find_running(settings, folder), shown)
    if as_json:
        terminal.print_json({"tour": _tour_fields(taken)})
    else:
        terminal.print_table(tours.COLUMNS, [row.cells() for row in taken.rows])
    if taken.failed:
        raise typer.Exit(1)


def read() -> tuple[Settings, StateFolder]:
    """The settings and the state folder of this machine's platform."""
    from flowforge.local.state import StateFolder

    os.umask(0o077)  # whatever the shell says: what is made here is its owner's alone, and usable
    settings = read_settings()
    return settings, StateFolder(settings.state.absolute())


def _say(text: str) -> None:
    terminal.err.print(text, markup=False)


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


@contextmanager
def disk_errors() -> Iterator[None]:
    """Say what to do when the disk is full or forbids something."""
    try:
        yield
    except OSError as error:
        raise Unavailable(
            f"{error.strerror or type(error).__name__}: {error.filename or 'the state folder'}.",
            hint="Free the disk or give yourself the right to it; `flowforge doctor` looks closer.",
        ) from error


def _print_platform(layout: Layout, last: Tour | None, *, is_new: bool, as_json: bool) -> None:
    from flowforge.local import tour as tours

    addresses = {
        "ui": layout.ui_url,
        "api": layout.api_url,
        "metrics": layout.metrics_url,
        "postgres": f"127.0.0.1:{layout.ports['postgres']}",
    }
    if as_json:
        terminal.print_json(
            {"started": is_new, "addresses": addresses, "tour": last and _tour_fields(last)}
        )
        return
    if last is not None:
        if not is_new:
            terminal.out.print(f"It runs already; the tour of {last.ended_at}:", markup=False)
        terminal.print_table(tours.COLUMNS, [row.cells() for row in last.rows])
    for name, address in addresses.items():
        terminal.out.print(f"{name:<9} {address}", markup=False)


def _tour_fields(taken: Tour) -> dict[str, object]:
    from dataclasses import asdict

    return {**asdict(taken), "failed": taken.failed}
