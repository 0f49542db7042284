"""`flowforge status`: what runs, and how well each database is protected, here or elsewhere.

This machine's platform is looked at from below, by its processes, so that it is told of even when
its server is down. Another environment is asked over HTTP and tells of its pools instead.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from flowforge import terminal
from flowforge.cli import following, platform
from flowforge.terminal import JsonFlag, ProfileOption

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from flowforge.client import PoolStatus, Readiness
    from flowforge.local.health import PartHealth

_PART_COLUMNS = ("part", "status", "pid", "restarts", "for", "memory", "note")
_POOL_COLUMNS = ("pool", "type", "workers online", "note")
_DATABASE_COLUMNS = ("server", "database", "newest copy", "age", "proof", "proven")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("status")(status)


def status(json: JsonFlag = False, profile: ProfileOption = None) -> None:
    """Show what runs, and how each database is protected."""
    is_well = _show_here(json) if profile is None else _show_environment(profile, json)
    if not is_well:
        raise typer.Exit(1)


def _show_here(as_json: bool) -> bool:
    """Show the platform of this machine and say whether all of it runs."""
    from flowforge.local import health

    _, folder = platform.read()
    with platform.disk_errors():
        found = health.look(folder)
    if as_json:
        terminal.print_json({**asdict(found), "state": str(folder.path)})
    else:
        if found.parts:
            terminal.print_table(_PART_COLUMNS, [_part_row(part) for part in found.parts])
        _print_rest(found.addresses, found.databases, found.summary)
    return found.is_running


def _show_environment(profile: str, as_json: bool) -> bool:
    """Show what the server of a profile says and whether operations can run there."""
    with following.open_client(profile) as client:
        ready = client.readiness()
        pools = client.pools() if ready.ready else []
        told = client.status() if ready.ready else None
        environment = client.calls.environment
    databases = [entry.model_dump(mode="json") for entry in told.databases] if told else []
    addresses = {"ui": environment.ui_url, "api": environment.api_url}
    is_well, summary = _judge(ready, pools)
    if as_json:
        terminal.print_json(
            {
                "is_running": is_well,
                "summary": summary,
                "version": told and told.version,
                "prefect": told and told.prefect,
                "pools": [pool.model_dump(mode="json") for pool in pools],
                "addresses": addresses,
                "databases": databases,
                "profile": profile,
            }
        )
    else:
        if pools:
            terminal.print_table(_POOL_COLUMNS, [_pool_row(pool) for pool in pools])
        _print_rest(addresses, databases, summary)
    return is_well


def _judge(ready: Readiness, pools: Sequence[PoolStatus]) -> tuple[bool, str]:
    if not ready.ready:
        return False, f"The server does not take writes: {ready.reason or 'it does not say why'}."
    if not pools:
        return (
            False,
            "There is no work pool, so nothing can run; `python -m work_pools` makes them.",
        )
    idle = [pool.name for pool in pools if not pool.workers_online]
    if idle:
        return False, f"No worker is online in {', '.join(idle)}; start one there."
    return True, "Everything runs."


def _print_rest(
    addresses: Mapping[str, str], databases: Sequence[Mapping[str, object]], summary: str
) -> None:
    for name, address in addresses.items():
        terminal.out.print(f"{name:<9} {address}", markup=False)
    if databases:
        terminal.print_table(_DATABASE_COLUMNS, [_database_row(entry) for entry in databases])
    terminal.out.print(summary, markup=False)


def _part_row(part: PartHealth) -> tuple[object, ...]:
    started = terminal.show_seconds(part.since_seconds)
    memory = f"{part.memory_mb:.0f} MB"
    return part.name, part.status, part.pid or "-", part.restarts, started, memory, part.note


def _pool_row(pool: PoolStatus) -> tuple[object, ...]:
    note = "paused: runs wait until it is resumed" if pool.is_paused else ""
    return pool.name, pool.type, pool.workers_online, note


def _database_row(entry: Mapping[str, object]) -> tuple[object, ...]:
    level = entry.get("level")
    proof = "failed" if entry.get("failed") else "none" if level is None else f"L{level}"
    age, proven = _age(entry.get("age_seconds")), _age(entry.get("proof_age_seconds"))
    return (
        entry.get("server"),
        entry.get("database"),
        entry.get("newest_copy") or "-",
        age or "-",
        proof,
        f"{proven} ago" if proven else "never",
    )


def _age(seconds: object) -> str | None:
    return None if seconds is None else terminal.show_seconds(float(str(seconds)))
