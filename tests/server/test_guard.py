from __future__ import annotations

import pytest

from flowforge.server.guard import Asked, open_door, refusal

DOOR = open_door((8080, 3000, 9090))
PUBLIC = open_door((8080, 3000), "ops.example.com, 10.0.0.5:8080", "https://Flow.example.com/api")


def asked(host: str | None, *, method: str = "GET", path: str = "/", **more: object) -> Asked:
    origin = more.pop("origin", None)
    origins = (str(origin),) if origin is not None else ()
    hosts = (host,) if host is not None else ()
    return Asked(method=method, path=path, hosts=hosts, origins=origins, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "host", ["127.0.0.1:8080", "localhost:3000", "LOCALHOST:8080", "[::1]:8080", "127.0.0.1:9090"]
)
def test_loopback_with_one_of_our_ports_may_ask(host: str) -> None:
    assert refusal(asked(host), DOOR) is None


@pytest.mark.parametrize(
    "host",
    [
        None,
        "",
        "127.0.0.1",
        "127.0.0.1:4200",
        "evil.example:8080",
        "127.0.0.1.evil.example:8080",
        "localhost.evil.example:8080",
        "evil.example@127.0.0.1:8080",
        "127.0.0.2:8080",
        "0.0.0.0:8080",
        "[::ffff:127.0.0.1]:8080",
        "2130706433:8080",
        "192.168.1.7:8080",
        "ops.example.com",
    ],
)
def test_any_other_host_is_refused_with_a_way_out(host: str | None) -> None:
    refused = refusal(asked(host, reached="127.0.0.1"), DOOR)
    assert refused is not None
    assert refused.status == 421
    assert "FLOWFORGE_ALLOWED_HOSTS" in refused.hint


def test_two_hosts_are_refused() -> None:
    two = Asked("GET", "/", hosts=("127.0.0.1:8080", "evil.example"))
    assert refusal(two, DOOR) is not None


@pytest.mark.parametrize(
    ("host", "reached", "passes"),
    [
        ("10.1.2.3:8080", "10.1.2.3", True),
        ("[fd00::1]:8080", "fd00::1", True),
        ("10.1.2.4:8080", "10.1.2.3", False),
        ("evil.example:8080", "10.1.2.3", False),
        ("10.1.2.3:8080", None, False),
    ],
)
def test_a_probe_may_ask_for_the_very_address_it_reached(
    host: str, reached: str | None, passes: bool
) -> None:
    assert (refusal(asked(host, reached=reached), DOOR) is None) is passes


@pytest.mark.parametrize(
    ("host", "passes"),
    [
        ("ops.example.com", True),
        ("ops.example.com:8080", True),
        ("10.0.0.5:8080", True),
        ("10.0.0.5:3000", False),
        ("flow.example.com", True),
        ("other.example.com", False),
    ],
)
def test_allowed_hosts_may_ask(host: str, passes: bool) -> None:
    assert (refusal(asked(host), PUBLIC) is None) is passes


@pytest.mark.parametrize(
    "origin", ["http://127.0.0.1:8080", "http://localhost:3000", "http://127.0.0.1:3000"]
)
@pytest.mark.parametrize("site", ["same-origin", "same-site", "cross-site"])
def test_our_own_pages_may_ask_across_our_ports(origin: str, site: str) -> None:
    ours = asked("127.0.0.1:8080", method="POST", path="/api/flows", origin=origin, site=site)
    assert refusal(ours, DOOR) is None


@pytest.mark.parametrize(
    "origin",
    [
        "null",
        "",
        "http://evil.example",
        "http://127.0.0.1:5000",
        "http://localhost",
        "http://127.0.0.1:8080.evil.example",
        "http://127.0.0.1:8080/",
        "file://",
        "chrome-extension://127.0.0.1:8080",
        "ftp://127.0.0.1:8080",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS", "DELETE"])
def test_pages_of_other_origins_are_refused(origin: str, method: str) -> None:
    foreign = asked("127.0.0.1:8080", method=method, path="/api/flows", origin=origin)
    refused = refusal(foreign, DOOR)
    assert refused is not None
    assert refused.status == 403


def test_a_public_address_is_an_origin_too() -> None:
    for origin in ("https://flow.example.com", "https://ops.example.com"):
        assert refusal(asked("flow.example.com", origin=origin), PUBLIC) is None
    assert refusal(asked("flow.example.com", origin="https://evil.example"), PUBLIC) is not None


@pytest.mark.parametrize(
    ("site", "mode", "destination", "method", "path", "passes"),
    [
        (None, None, None, "POST", "/api/flows", True),  # a program
        ("none", "navigate", "document", "GET", "/api/docs", True),  # typed by a person
        ("same-origin", "cors", "empty", "GET", "/api/flows", True),
        ("cross-site", "navigate", "document", "GET", "/v2/runs", True),  # a link followed
        ("same-site", "navigate", "document", "GET", "/", True),
        ("cross-site", "navigate", "document", "GET", "/api/flows", False),
        ("cross-site", "navigate", "document", "GET", "/ff/v1/status", False),
        ("cross-site", "navigate", "document", "POST", "/v2/runs", False),
        ("cross-site", "navigate", "iframe", "GET", "/v2/runs", False),
        ("cross-site", "no-cors", "image", "GET", "/v2/ico/favicon.png", False),
        ("same-site", "no-cors", "image", "GET", "/api/flows", False),
        ("cross-site", "no-cors", "script", "GET", "/ui-settings", False),
        ("cross-site", "websocket", "empty", "GET", "/api/events/out", False),
        ("nonsense", "cors", "empty", "GET", "/", False),
    ],
)
def test_a_browser_says_how_near_the_page_is(
    site: str | None,
    mode: str | None,
    destination: str | None,
    method: str,
    path: str,
    passes: bool,
) -> None:
    request = asked(
        "127.0.0.1:3000", method=method, path=path, site=site, mode=mode, destination=destination
    )
    assert (refusal(request, DOOR) is None) is passes
