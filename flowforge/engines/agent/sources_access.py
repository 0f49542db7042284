"""Access to a private repository, which reaches Git by private files alone.

A token is given to the one host it is for, so a redirect does not carry it away; a key is used with
the host keys somebody checked.
"""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, urlsplit

from flowforge.errors import Refused

_PORTS = {"http": 80, "https": 443}
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class TokenAccess:
    """A token, or a password, for HTTPS."""

    token: str = field(repr=False)
    username: str = "x-access-token"
    place: str | None = None
    """The only host it is given to, with its port; without one, whoever names it may send it to
    the host of any repository."""


@dataclass(frozen=True)
class KeyAccess:
    """A private key for SSH."""

    private_key: str = field(repr=False)
    known_hosts: str
    """Lines as in `~/.ssh/known_hosts`; a host that is not in them is not spoken to."""


@dataclass(frozen=True)
class NoAccess:
    """One that was named and is not to be had; a job that would need it fails with the reason."""

    why: Refused


Access = TokenAccess | KeyAccess | NoAccess


@dataclass(frozen=True)
class Grant:
    """How one fetch may go out."""

    settings: tuple[str, ...]
    environment: dict[str, str]
    secrets: tuple[str, ...] = field(repr=False)


@contextmanager
def granted(url: str, access: Access | None, folder: Path) -> Iterator[Grant]:
    """Allow the one protocol of a URL, with the access laid down in files that end with it.

    Args:
        url: Of the repository.
        access: To it, if it is private.
        folder: A private folder, where the files are.

    Raises:
        Refused: The access does not fit the URL, or there is none of the name.
    """
    protocol = _protocol(url)
    allowed = ("-c", f"protocol.{protocol}.allow=always")
    with tempfile.TemporaryDirectory(dir=folder) as private:
        match protocol, access:
            case _, NoAccess():
                raise access.why
            case "ssh", KeyAccess():
                yield Grant(allowed, _ssh(access, Path(private)), (access.private_key,))
            case (("http" | "https"), TokenAccess()):
                settings = _token(url, access, Path(private))
                yield Grant((*allowed, *settings), {}, (access.token, quote(access.token, "")))
            case (("http" | "https" | "file"), None):
                yield Grant(allowed, {}, ())
            case _:
                raise Refused(
                    f"{url} cannot be opened with the access that is given.",
                    hint="Save a key for ssh:// and a token for https://, with `flowforge repo "
                    "add NAME`, and name it in `secret` of the workspace.",
                )


def place_of(url: str) -> str | None:
    """Host and port of a URL; `None` when it has none that can be read."""
    parts = urlsplit(url)
    try:
        port = parts.port or _PORTS.get(parts.scheme.lower())
    except ValueError:
        return None
    return f"{parts.hostname}:{port}" if parts.hostname and port else None


def _protocol(url: str) -> str:
    scheme, found, _ = url.partition("://")
    if found:
        return scheme.lower()
    return "file" if url.startswith("/") else "ssh"


def _ssh(access: KeyAccess, private: Path) -> dict[str, str]:
    key, hosts = private / "key", private / "hosts"
    for place, text in ((key, access.private_key), (hosts, access.known_hosts)):
        place.touch(mode=0o600)
        place.write_text(text.rstrip("\n") + "\n")
    options = (
        "BatchMode=yes",
        "IdentitiesOnly=yes",
        "IdentityAgent=none",
        "StrictHostKeyChecking=yes",
        "GlobalKnownHostsFile=/dev/null",
        f"UserKnownHostsFile={hosts}",
        "ServerAliveInterval=30",
    )
    words = ["ssh", "-F", "/dev/null", "-i", str(key)]
    words += [word for option in options for word in ("-o", option)]
    return {"GIT_SSH_COMMAND": shlex.join(words), "GIT_SSH_VARIANT": "ssh"}


def _token(url: str, access: TokenAccess, private: Path) -> tuple[str, ...]:
    parts = urlsplit(url)
    if parts.scheme.lower() == "http" and parts.hostname not in _LOOPBACK:
        raise Refused(
            f"A token is not sent to {url} in the clear.", hint="Use its https:// address."
        )
    if access.place is not None and place_of(url) != access.place:
        raise Refused(
            f"The token is for {access.place} alone, and not for {url}.",
            hint="Name the access that was saved for that host in `secret` of the workspace.",
        )
    store = private / "token"
    store.touch(mode=0o600)
    user, token = quote(access.username, safe=""), quote(access.token, safe="")
    store.write_text(f"{parts.scheme}://{user}:{token}@{parts.netloc}\n")
    return ("-c", f"credential.helper=store --file={shlex.quote(str(store))}")
