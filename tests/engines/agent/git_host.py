"""A host of private repositories: Git's own HTTP program behind a password."""

from __future__ import annotations

import base64
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

TOKEN = "tok-en/with+odd=chars%20"
_WANTED = "Basic " + base64.b64encode(f"x-access-token:{TOKEN}".encode()).decode()


class Host(ThreadingHTTPServer):
    """Serves what is below a folder to who has the token."""

    daemon_threads = True

    def __init__(self, folder: Path, *, sends_to: str | None = None) -> None:
        super().__init__(("127.0.0.1", 0), Asked)
        self.folder = folder
        self.sends_to = sends_to
        self.authorizations: list[str | None] = []
        self.url = f"http://127.0.0.1:{self.server_port}"


class Asked(BaseHTTPRequestHandler):
    server: Host

    def do_GET(self) -> None:
        said = self.headers.get("Authorization")
        self.server.authorizations.append(said)
        if said != _WANTED:
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="repositories"')
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif self.server.sends_to:
            self.send_response(302)
            self.send_header("Location", self.server.sends_to + self.path)
            self.send_header("Content-Length", "0")
            self.end_headers()
        else:
            self._serve()

    do_POST = do_GET

    def _serve(self) -> None:
        asked = urlsplit(self.path)
        env = {
            "PATH": os.environ["PATH"],
            "GIT_PROJECT_ROOT": str(self.server.folder),
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            "REQUEST_METHOD": self.command,
            "PATH_INFO": asked.path,
            "QUERY_STRING": asked.query,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
        }
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        said = subprocess.run(
            ["git", "http-backend"], env=env, input=body, capture_output=True, check=True
        )
        head, _, content = said.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        self.send_response(int(headers.pop("Status", "200").split()[0]))
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def host(folder: Path, *, sends_to: str | None = None) -> Iterator[Host]:
    with Host(folder, sends_to=sends_to) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
