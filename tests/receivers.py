"""Real receivers of messages on loopback: a web server and a mail server that keep them."""

from __future__ import annotations

import base64
import http.server
import json
import queue
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass
class WebReceiver:
    """Keeps the JSON of every POST, in order."""

    url: str
    status: int = 200
    received: queue.Queue[dict[str, Any]] = field(default_factory=queue.Queue)


@contextmanager
def receive_posts(status: int = 200) -> Iterator[WebReceiver]:
    """Listen while the block lasts."""
    receiver = WebReceiver("", status)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            receiver.received.put(json.loads(body))
            self.send_response(receiver.status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    with _serving(http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as port:
        receiver.url = f"http://127.0.0.1:{port}/hooks/very-secret-path"
        yield receiver


@dataclass
class MailReceiver:
    """Keeps every mail as text, and who logged in."""

    port: int = 0
    password: str | None = None
    """What AUTH PLAIN must give; without one nobody has to log in."""
    mails: list[str] = field(default_factory=list)
    logins: list[tuple[str, str]] = field(default_factory=list)


@contextmanager
def receive_mails(password: str | None = None) -> Iterator[MailReceiver]:
    """Listen while the block lasts, without TLS."""
    receiver = MailReceiver(password=password)

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self._say("220 receiver")
            for line in self.rfile:
                words = line.decode().strip().split(" ")
                if not self._answer(words[0].upper(), words):
                    return

        def _answer(self, verb: str, words: list[str]) -> bool:
            if verb == "EHLO":
                self._say("250-receiver\r\n250 AUTH PLAIN" if receiver.password else "250 receiver")
            elif verb == "AUTH":
                _, user, given = base64.b64decode(words[2]).decode().split("\0")
                receiver.logins.append((user, given))
                self._say("235 ok" if given == receiver.password else "535 no")
            elif verb == "DATA":
                self._say("354 go on")
                receiver.mails.append(self._read_mail())
                self._say("250 kept")
            else:
                self._say("221 bye" if verb == "QUIT" else "250 ok")
            return verb != "QUIT"

        def _read_mail(self) -> str:
            lines: list[bytes] = []
            while (line := self.rfile.readline()).rstrip() != b".":
                lines.append(line)
            return b"".join(lines).decode()

        def _say(self, text: str) -> None:
            self.wfile.write(text.encode() + b"\r\n")

    with _serving(socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)) as port:
        receiver.port = port
        yield receiver


@contextmanager
def _serving(server: socketserver.TCPServer) -> Iterator[int]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
