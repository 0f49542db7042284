"""A bucket in the memory of a small process: as little of a server as a listing needs.

moto takes several milliseconds a request, so a listing of many objects measures moto. This one
shows the files of a folder as they were when it began, answers HEAD, GET and ListObjectsV2, checks
no signature, and counts requests.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import subprocess
import sys
import threading
import urllib.request
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar
from urllib.parse import parse_qs, quote, unquote, urlsplit
from xml.sax.saxutils import escape

_PAGE = 1000
_COUNTS = "/-/counts"


@dataclass(frozen=True)
class PlainBucket:
    """A running one."""

    url: str

    def take_counts(self) -> dict[str, int]:
        """How many requests of each kind came since this was asked last."""
        with urllib.request.urlopen(self.url + _COUNTS) as answer:
            counts: dict[str, int] = json.load(answer)
            return counts


@contextlib.contextmanager
def serve_folder(folder: Path) -> Iterator[PlainBucket]:
    """Serve what a folder holds, from a process of its own, which ends with the block."""
    command = [sys.executable, str(Path(__file__)), str(folder)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield PlainBucket(f"http://127.0.0.1:{int(process.stdout.readline())}")
    finally:
        process.communicate()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    objects: ClassVar[dict[str, bytes]] = {}
    """In the order of their keys."""

    counts: ClassVar[Counter[str]] = Counter()

    def do_GET(self) -> None:
        place = urlsplit(self.path)
        asked = parse_qs(place.query)
        if self.path == _COUNTS:
            self._answer(200, json.dumps(self.counts).encode())
            self.counts.clear()
        elif "list-type" in asked:
            self.counts["list"] += 1
            self._answer(200, _page(self.objects, asked))
        else:
            self.counts["get"] += 1
            self._give()

    def do_HEAD(self) -> None:
        self.counts["head"] += 1
        self._give()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def _give(self) -> None:
        body = self.objects.get(_key(self.path))
        if body is None:
            return self._answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
        return self._answer(200, body, body)

    def _answer(self, status: int, body: bytes, described: bytes = b"") -> None:
        self.send_response_only(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", _etag(described))
        self.send_header("Last-Modified", "Mon, 23 Nov 2026 18:00:00 GMT")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _key(path: str) -> str:
    return unquote(urlsplit(path).path).removeprefix("/").partition("/")[2]


def _etag(body: bytes) -> str:
    return f'"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"'


def _page(objects: dict[str, bytes], asked: dict[str, list[str]]) -> bytes:
    prefix, after = (asked.get(word, [""])[0] for word in ("prefix", "continuation-token"))
    keys = [key for key in objects if key > after and key.startswith(prefix)]
    shown = "".join(
        f"<Contents><Key>{escape(quote(key))}</Key><Size>{len(objects[key])}</Size>"
        "<LastModified>2026-11-23T18:00:00.000Z</LastModified></Contents>"
        for key in keys[:_PAGE]
    )
    more = ""
    if is_cut := len(keys) > _PAGE:
        more = f"<NextContinuationToken>{escape(keys[_PAGE - 1])}</NextContinuationToken>"
    return (
        f"<ListBucketResult><EncodingType>url</EncodingType>{shown}"
        f"<IsTruncated>{str(is_cut).lower()}</IsTruncated>{more}</ListBucketResult>"
    ).encode()


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    root = Path(sys.argv[1])
    files = {str(path.relative_to(root)): path for path in root.rglob("*") if path.is_file()}
    _Handler.objects.update((key, files[key].read_bytes()) for key in sorted(files))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_port, flush=True)  # noqa: T201
    sys.stdin.read()
