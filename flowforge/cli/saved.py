"""The systems people saved: asked of and told to `python -m blocks`, in a process of its own.

Secrets go to that process on its standard input, so no command line ever holds one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from pydantic import JsonValue

from flowforge.errors import Damaged, FlowForgeError, Refused, Unavailable

_TIMEOUT_SECONDS = 120
_KINDS: Mapping[str, type[FlowForgeError]] = {
    "unavailable": Unavailable,
    "refused": Refused,
    "damaged": Damaged,
}


def list_saved(kind: str, profile: str | None) -> list[dict[str, JsonValue]]:
    """Every saved system of a kind (`server`, `store`, `pager`): its name and where it is."""
    documents: list[dict[str, JsonValue]] = ask(["list", kind], profile)["documents"]
    return documents


def show_saved(kind: str, name: str, profile: str | None) -> dict[str, JsonValue]:
    """The fields of one saved system, without secrets."""
    fields: dict[str, JsonValue] = ask(["show", kind, name], profile)["fields"]
    return fields


def save(kind: str, name: str, value: JsonValue, profile: str | None) -> str:
    """Save one system and say whether it was `created`, `updated` or `unchanged`."""
    answer = ask(["apply"], profile, {f"{kind}s": {name: value}})
    return str(answer["saved"][0]["action"])


def ask(arguments: list[str], profile: str | None, request: JsonValue = None) -> dict[str, Any]:
    """Run `python -m blocks` and return its answer.

    Raises:
        Unavailable: The server did not answer.
        Refused: It said no.
        Damaged: It found something that a person has to look at.
    """
    # -P: a folder called `blocks` where the command is typed must not be taken for ours.
    command = [sys.executable, "-P", "-m", "blocks", *arguments, "--json"]
    try:
        done = subprocess.run(
            command,
            input="" if request is None else json.dumps(request),
            env=_environment(profile),
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise Unavailable(
            f"The server did not answer within {_TIMEOUT_SECONDS} s.",
            hint="`flowforge status` tells how it is; then try again.",
        ) from error
    try:
        answer = json.loads(done.stdout)
    except ValueError as error:
        # What the process wrote may hold what it was given, so it is not repeated.
        raise Unavailable(
            f"The saved systems could not be reached (exit status {done.returncode}).",
            hint=f"Run `python -m blocks list {arguments[1] if len(arguments) > 1 else ''}` "
            "to see why.",
        ) from error
    if "error" in answer:
        told = answer["error"]
        raise _KINDS.get(told["kind"], FlowForgeError)(told["message"], hint=told["hint"])
    return dict(answer)


def _environment(profile: str | None) -> dict[str, str]:
    from flowforge.client import find_environment

    found = find_environment(profile=profile)
    environment = {name: value for name, value in os.environ.items() if name != "PREFECT_PROFILE"}
    environment |= {"PREFECT_API_URL": found.api_url, "FLOWFORGE_API_URL": found.api_url}
    if found.credentials:
        environment["PREFECT_API_AUTH_STRING"] = ":".join(found.credentials)
    return environment
