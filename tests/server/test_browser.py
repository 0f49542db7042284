"""What a page of another origin can do to a server on this machine, tried in a real browser."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.server.running import Running

CHROMIUM = Path("/usr/bin/chromium")
pytestmark = pytest.mark.skipif(
    not CHROMIUM.exists(), reason="needs a browser: apt-get install chromium"
)

ATTACK = (Path(__file__).parent / "attack.js").read_text()


class ForeignPage(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>foreign</title><body>")

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def foreign_port() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), ForeignPage) as site:
        thread = threading.Thread(target=site.serve_forever)
        thread.start()
        yield site.server_port
        site.shutdown()
        thread.join()


@contextmanager
def a_browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=str(CHROMIUM),
            args=[
                "--no-sandbox",
                "--disable-gpu",
                "--disable-background-networking",
                "--host-resolver-rules=MAP *.example 127.0.0.1",
                # Newer browsers ask before a public page reaches this machine. Older ones do not.
                "--disable-features=LocalNetworkAccessChecks,BlockInsecurePrivateNetworkRequests",
            ],
        )
        try:
            yield browser
        finally:
            browser.close()


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with a_browser() as browser:
        yield browser.new_page()


@pytest.mark.parametrize("site", ["127.0.0.1", "localhost", "evil.example"])
@pytest.mark.parametrize("port", ["api", "ui"])
def test_a_page_of_another_origin_reads_nothing_and_triggers_nothing(
    server: Running, page: Page, foreign_port: int, site: str, port: str
) -> None:
    target = server.api if port == "api" else server.ui
    marks = [f"m{uuid4().hex[:10]}" for _ in range(5)]
    refused_before = server.metric("flowforge_requests_refused_total")
    page.goto(f"http://{site}:{foreign_port}/")
    outcome = page.evaluate(ATTACK, [target, marks])
    assert set(outcome.values()) == {"refused"}, outcome
    assert {"get", "json", "text", "socket", "image", "script"} <= set(outcome)
    # The browser did send them; it was this server that said no.
    assert server.metric("flowforge_requests_refused_total") - refused_before >= 8
    for mark in marks:
        assert server.get(f"{server.api}/api/variables/name/{mark}").status_code == 404


def test_a_rebound_name_reaches_nothing(server: Running, page: Page) -> None:
    for port in (server.api_port, server.ui_port):
        root = f"http://rebound.example:{port}"
        answer = page.goto(f"{root}/v2/")
        assert answer is not None
        assert answer.status == 421
        read = "async url => (await fetch(url, {method: 'POST'})).status"
        assert page.evaluate(read, f"{root}/api/flows/filter") == 421


def test_a_foreign_page_may_not_frame_us_but_a_link_works(
    server: Running, page: Page, foreign_port: int
) -> None:
    page.goto(f"http://evil.example:{foreign_port}/")
    draw = "url => { document.body.innerHTML = `<a href='${url}'>go</a><iframe src='${url}'>` }"
    with page.expect_response(lambda answer: answer.url.startswith(server.ui)) as framed:
        page.evaluate(draw, f"{server.ui}/v2/dashboard")
    assert framed.value.status == 403
    with page.expect_navigation():
        page.click("a")
    page.wait_for_selector("text=Dashboard", timeout=30_000)
    assert page.url.startswith(server.ui)


@pytest.mark.parametrize("port", ["api", "ui"])
def test_our_own_page_works(server: Running, page: Page, port: str) -> None:
    root = server.api if port == "api" else server.ui
    failed: list[str] = []
    page.on("response", lambda r: failed.append(r.url) if r.status in (403, 421) else None)
    page.goto(f"{root}/")
    page.wait_for_selector("text=Dashboard", timeout=30_000)
    assert failed == []
    asked = "async url => (await fetch(url, {method: 'POST', body: '{}', headers: "
    asked += "{'content-type': 'application/json'}})).status"
    assert page.evaluate(asked, f"{root}/api/flows/filter") == 200
    opened = "url => new Promise(done => { const s = new WebSocket(url); s.onopen = () => "
    opened += "done('open'); s.onerror = () => done('refused'); })"
    assert page.evaluate(opened, root.replace("http", "ws") + "/api/events/out") == "open"
