"""Which FlowForge is meant: an address, a Prefect profile, or the platform running on this machine.

The first of these that says something wins: an argument, a named profile, the environment
(`FLOWFORGE_API_URL`, `PREFECT_API_URL`, `PREFECT_PROFILE`), the local platform's state, the active
Prefect profile, port 8080 of this machine. Profiles are read from Prefect's own file, without
importing Prefect.
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from flowforge.errors import Refused
from flowforge.settings import Settings, read_settings

DEFAULT_API_URL = "http://127.0.0.1:8080/api"
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
_EVERY_INTERFACE = frozenset({"0.0.0.0", "::", ""})


@dataclass(frozen=True)
class Environment:
    """One FlowForge server and how to enter it."""

    api_url: str
    """Prefect's API, ending in `/api`."""

    ui_url: str
    """Where people look at runs."""

    credentials: tuple[str, str] | None = field(default=None, repr=False)
    """User and password of basic authentication."""

    @property
    def root_url(self) -> str:
        """The server itself, where its probes are."""
        return self.api_url.removesuffix("/api")

    @property
    def own_url(self) -> str:
        """FlowForge's own API."""
        return f"{self.root_url}/ff/v1"

    @property
    def is_loopback(self) -> bool:
        """Whether the server is on this machine; then no proxy may stand between."""
        return (urlsplit(self.api_url).hostname or "") in _LOOPBACK

    def run_url(self, flow_run_id: str) -> str:
        """The page of one run."""
        return f"{self.ui_url}/v2/runs/flow-run/{flow_run_id}"


def find_environment(api_url: str | None = None, profile: str | None = None) -> Environment:
    """Find the server that is meant.

    Args:
        api_url: Its API address; `/api` is added when the address has no path.
        profile: The name of a Prefect profile.

    Raises:
        Refused: The profile does not exist or names no server, or the address is not one.
    """
    settings = read_settings()
    if api_url is None and profile is not None:
        return _of_profile(profile)
    if api_url is None and settings.api_url is None and os.environ.get("PREFECT_PROFILE"):
        return _of_profile(os.environ["PREFECT_PROFILE"])
    chosen = api_url or settings.api_url
    local = _local_ports(settings)
    if chosen is None and local is not None:
        return _environment(local[0], os.environ, ui_url=local[1])
    if chosen is None and (active := _active_profile()) is not None:
        return _environment(active["PREFECT_API_URL"], active)
    chosen = chosen or DEFAULT_API_URL
    ui_url = local[1] if local is not None and _normal(chosen) == _normal(local[0]) else None
    return _environment(chosen, os.environ, ui_url=ui_url)


def _environment(
    api_url: str, source: Mapping[str, str], *, ui_url: str | None = None
) -> Environment:
    api = _normal(api_url)
    ui = source.get("PREFECT_UI_URL") or ui_url or api.removesuffix("/api")
    secret = source.get("PREFECT_API_AUTH_STRING") or os.environ.get("PREFECT_API_AUTH_STRING")
    user, _, password = (secret or "").partition(":")
    return Environment(
        api, ui.rstrip("/").removesuffix("/v2"), (user, password) if secret else None
    )


def _normal(api_url: str) -> str:
    hint = "Give it as http://HOST:PORT/api; user and password belong in PREFECT_API_AUTH_STRING."
    try:
        parts = urlsplit(api_url.strip())
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError as error:
        raise Refused("The API address cannot be read.", hint=hint) from error
    if not valid or parts.username is not None:
        raise Refused("The API address is not an http address without a user.", hint=hint)
    path = parts.path.rstrip("/")
    path = path if path.endswith("/api") else f"{path}/api"
    return urlunsplit((parts.scheme, parts.netloc, path, "", ""))


def _local_ports(settings: Settings) -> tuple[str, str] | None:
    """API and UI address of the platform that lives on this machine, if one does."""
    try:
        state = json.loads((settings.state / "state.json").read_bytes())
        api, ui = int(state["ports"]["api"]), int(state["ports"]["ui"])
    except (FileNotFoundError, NotADirectoryError, KeyError, TypeError, ValueError):
        return None
    host = str(state.get("host") or "")
    host = "127.0.0.1" if host in _EVERY_INTERFACE else host
    host = f"[{host}]" if ":" in host else host
    return f"http://{host}:{api}/api", f"http://{host}:{ui}"


def _of_profile(name: str) -> Environment:
    profiles = _profiles()
    if name not in profiles:
        raise Refused(
            f"There is no Prefect profile {name!r}.",
            hint=f"Known are: {', '.join(sorted(profiles)) or 'none'}. "
            f"Make it with `prefect profile create {name}`.",
        )
    url = profiles[name].get("PREFECT_API_URL")
    if not url:
        raise Refused(
            f"The Prefect profile {name!r} names no server.",
            hint=f"Run `prefect -p {name} config set PREFECT_API_URL=http://HOST:PORT/api`.",
        )
    return _environment(url, profiles[name])


def _active_profile() -> dict[str, str] | None:
    active = _profiles().get(str(_profile_file().get("active")), {})
    return active if active.get("PREFECT_API_URL") else None


def _profiles() -> dict[str, dict[str, str]]:
    entries = _profile_file().get("profiles", {})
    if not isinstance(entries, dict):
        return {}
    return {
        name: {key: str(value) for key, value in fields.items()}
        for name, fields in entries.items()
        if isinstance(fields, dict)
    }


def _profile_file() -> dict[str, object]:
    home = Path(os.environ.get("PREFECT_HOME") or "~/.prefect").expanduser()
    path = Path(os.environ.get("PREFECT_PROFILES_PATH") or home / "profiles.toml")
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except ValueError as error:
        raise Refused(
            f"Prefect's profiles in {path} cannot be read.",
            hint="Repair the file, or move it away and create the profiles again.",
        ) from error
