"""`python -m work_pools` makes the server's work pools match `pools.py`, and says what it changed.

It speaks plain HTTP: Prefect's client would cost more to import than all the work here. What an
operator switched by hand, a pool's pause, is left as it is.
"""

from __future__ import annotations

import argparse
import sys

import httpx

from flowforge import terminal
from flowforge.client.address import find_environment
from flowforge.errors import FlowForgeError, Refused, Unavailable
from flowforge.settings import read_settings
from work_pools.pools import TYPES, Pool, list_pools

_TIMEOUT_SECONDS = 30


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m work_pools", description=__doc__)
    parser.add_argument("--type", choices=TYPES, default="process", help="where runs start")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    try:
        pools = list_pools(options.type, read_settings())
        with open_api() as api:
            changes = {pool.name: match(api, pool) for pool in pools}
    except FlowForgeError as error:
        terminal.print_error(error)
        return error.exit_code
    if options.json:
        terminal.print_json({"pools": {name: list(changed) for name, changed in changes.items()}})
    else:
        for name, changed in changes.items():
            terminal.out.print(f"{name}: {', '.join(changed) or 'unchanged'}", markup=False)
    return 0


def open_api() -> httpx.Client:
    """A client of the Prefect API this environment means."""
    environment = find_environment()
    return httpx.Client(
        base_url=environment.api_url,
        timeout=_TIMEOUT_SECONDS,
        auth=environment.credentials,
        trust_env=not environment.is_loopback,
    )


def match(api: httpx.Client, pool: Pool) -> tuple[str, ...]:
    """Make one pool match, and return what changed: nothing, `created`, or names of fields.

    Raises:
        Refused: A pool of that name exists and is of another type.
        Unavailable: The server did not answer, or failed.
    """
    wanted = pool.model_dump(mode="json", exclude={"queues"})
    found = _ask(api, "GET", f"/work_pools/{pool.name}")
    if found is None:
        _ask(api, "POST", "/work_pools/", wanted)
        match_queues(api, pool)
        return ("created",)
    if found["type"] != pool.type:
        raise Refused(
            f"The work pool {pool.name} is of type {found['type']}, not {pool.type}.",
            hint=f"Run `python -m work_pools --type {found['type']}`, or delete the pool first.",
        )
    differing = {field: value for field, value in wanted.items() if found.get(field) != value}
    if differing:
        _ask(api, "PATCH", f"/work_pools/{pool.name}", differing)
    return (*differing, *match_queues(api, pool))


def match_queues(api: httpx.Client, pool: Pool) -> tuple[str, ...]:
    """Make the queues of a pool match, and return what changed: `queue` and a name each."""
    place, changed = f"/work_pools/{pool.name}/queues", []
    for queue in pool.queues:
        found = _ask(api, "GET", f"{place}/{queue.name}")
        if found is None:
            _ask(api, "POST", place, queue.model_dump())
        elif found["priority"] != queue.priority:
            _ask(api, "PATCH", f"{place}/{queue.name}", {"priority": queue.priority})
        else:
            continue
        changed.append(f"queue {queue.name}")
    return tuple(changed)


def _ask(
    api: httpx.Client, method: str, path: str, body: dict[str, object] | None = None
) -> dict[str, object] | None:
    try:
        answer = api.request(method, path, json=body)
    except httpx.TransportError as error:
        raise Unavailable(
            f"The Prefect server at {api.base_url} does not answer ({type(error).__name__}).",
            hint="Start it with `flowforge up`, or set PREFECT_API_URL to one that runs.",
        ) from error
    if answer.status_code == 404 and method == "GET":
        return None
    if answer.status_code in (401, 403):
        raise Refused(
            f"The Prefect server refused who we are ({answer.status_code}).",
            hint="Set PREFECT_API_AUTH_STRING to the server's, then run it again.",
        )
    if not answer.is_success:
        raise Unavailable(
            f"The Prefect server answered {answer.status_code} to {method} {path}: "
            f"{answer.text[:300]}",
            hint="Check PREFECT_API_URL (it ends in /api) and the server's log.",
        )
    return answer.json() if answer.content else {}


if __name__ == "__main__":
    sys.exit(main())
