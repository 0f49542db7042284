"""Who may ask: only callers that named us as ourselves, and only pages that we served.

A browser lets any page send requests to 127.0.0.1. Three facts tell such a request apart: the
`Host` it asked for (a rebound DNS name is not ours), the `Origin` of the page that asks, and the
browser's own word on how near that page is (`Sec-Fetch-Site`). Programs send none of the last two.
`refusal` decides and touches nothing; `Guard` asks it for every request and websocket.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
_NEAR = frozenset({"same-origin", "none"})
_SAFE_METHODS = frozenset({"GET", "HEAD"})
_PRIVATE_PATHS = ("/api", "/ff")
_ADDED_HEADERS = (
    (b"content-security-policy", b"frame-ancestors 'self'"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"x-content-type-options", b"nosniff"),
)


@dataclass(frozen=True)
class Door:
    """The names under which this server may be asked."""

    hosts: frozenset[str]
    """`host:port` or, where the port is the scheme's own, `host`; lower case."""

    ports: frozenset[int]
    """The ports that are listened on."""

    public_origins: frozenset[str] = frozenset()
    """Origins of a proxy that people reach this server through, with their scheme."""


@dataclass(frozen=True)
class Asked:
    """The parts of a request that tell who asks."""

    method: str
    path: str
    hosts: tuple[str, ...]
    origins: tuple[str, ...] = ()
    site: str | None = None
    mode: str | None = None
    destination: str | None = None
    reached: str | None = None
    """The local address the connection came in on."""


@dataclass(frozen=True)
class Refusal:
    """Why a request is not answered."""

    status: int
    message: str
    hint: str


def open_door(ports: Iterable[int], allowed_hosts: str = "", public_url: str | None = None) -> Door:
    """Name the hosts and origins that are ours.

    Args:
        ports: The ports that are listened on.
        allowed_hosts: A comma list of further hosts, each with or without a port.
        public_url: The address browsers use when it is not where the server listens.
    """
    ports = tuple(ports)
    hosts = {name for host in _LOOPBACK for name in _with_ports(host, ports)}
    for entry in filter(None, (e.strip().lower() for e in allowed_hosts.split(","))):
        hosts |= {entry} if _has_port(entry) else {entry, *_with_ports(entry, ports)}
    origins = set()
    if public_url:
        parts = urlsplit(public_url.lower())
        hosts.add(parts.netloc.rpartition("@")[2])
        origins.add(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}")
    return Door(frozenset(hosts), frozenset(ports), frozenset(origins))


def refusal(asked: Asked, door: Door) -> Refusal | None:
    """Say why a request is refused; `None` when it may pass."""
    if len(asked.hosts) != 1 or not _is_own_host(asked.hosts[0], asked.reached, door):
        named = ", ".join(asked.hosts) or "nobody"
        return Refusal(
            421,
            f"This server does not answer for the host {named[:200]!r}.",
            "Use http://127.0.0.1 with its port, or name the host in FLOWFORGE_ALLOWED_HOSTS.",
        )
    if asked.origins:
        if len(asked.origins) == 1 and _is_own_origin(asked.origins[0], asked, door):
            return None
        return Refusal(
            403,
            "A page of another origin may not use this server.",
            "Open FlowForge's own address, or name the page's host in FLOWFORGE_ALLOWED_HOSTS.",
        )
    if asked.site is not None and asked.site not in _NEAR and not _is_navigation(asked):
        return Refusal(
            403,
            "A page of another site may only link to this server's own pages.",
            "Open FlowForge's own address in the browser.",
        )
    return None


def _is_own_host(host: str, reached: str | None, door: Door) -> bool:
    host = host.strip().lower()
    if host in door.hosts:
        return True
    # Probes and scrapers ask for the very address they connect to. No foreign page can have it.
    name, _, port = host.rpartition(":")
    if reached is None or port not in {str(own) for own in door.ports}:
        return False
    try:
        literal = ip_address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return not literal.is_loopback and literal == ip_address(reached.partition("%")[0])


def _is_own_origin(origin: str, asked: Asked, door: Door) -> bool:
    origin = origin.strip().lower()
    if origin in door.public_origins:
        return True
    scheme, separator, host = origin.partition("://")
    if not separator or scheme not in ("http", "https"):
        return False
    return host in door.hosts or host == asked.hosts[0].strip().lower()


def _is_navigation(asked: Asked) -> bool:
    """Whether a person followed a link to one of our pages; `/api` and `/ff` are not pages."""
    return (
        asked.method in _SAFE_METHODS
        and asked.mode == "navigate"
        and asked.destination == "document"
        and not any(asked.path == p or asked.path.startswith(f"{p}/") for p in _PRIVATE_PATHS)
    )


def _with_ports(host: str, ports: tuple[int, ...]) -> list[str]:
    names = [f"{host}:{port}" for port in ports]
    return [*names, host] if 80 in ports else names


def _has_port(entry: str) -> bool:
    return entry.rpartition("]")[2].count(":") == 1


class Guard:
    """Refuses before anything behind it sees the request, websockets included."""

    def __init__(
        self, app: ASGIApp, door: Door, on_refusal: Callable[[Refusal], None] | None = None
    ) -> None:
        self.app = app
        self.door = door
        self.on_refusal = on_refusal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer why not."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        refused = refusal(_read(scope), self.door)
        if refused is None:
            await self.app(scope, receive, _protected(send))
            return
        if self.on_refusal is not None:
            self.on_refusal(refused)
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": "refused"})
        else:
            await _answer(refused, _protected(send))


def _read(scope: Scope) -> Asked:
    found: dict[bytes, list[str]] = {}
    for name, value in scope["headers"]:
        found.setdefault(name.lower(), []).append(value.decode("latin-1"))

    def first(name: bytes) -> str | None:
        return found.get(name, [None])[0]

    server = scope.get("server")
    return Asked(
        method=scope.get("method", "GET"),
        path=scope["path"],
        hosts=tuple(found.get(b"host", ())),
        origins=tuple(found.get(b"origin", ())),
        site=first(b"sec-fetch-site"),
        mode=first(b"sec-fetch-mode"),
        destination=first(b"sec-fetch-dest"),
        reached=server[0] if server else None,
    )


def _protected(send: Send) -> Send:
    async def add_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), *_ADDED_HEADERS]
        await send(message)

    return add_headers


async def _answer(refused: Refusal, send: Send) -> None:
    error = {"kind": "refused", "message": refused.message, "hint": refused.hint}
    body = json.dumps({"error": error}).encode()
    headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
    headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": refused.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
