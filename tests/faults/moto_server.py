"""Buckets on loopback, gone when the standard input of this process ends.

moto looks for a key and stores it in two steps, so two writers at once may both win; Amazon S3 does
it in one. Here one request is answered after the other, which makes it one step, too. Parts of an
upload may be a KiB, so that tests with many parts move few bytes.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterable
from typing import Any

os.environ["S3_UPLOAD_PART_MIN_SIZE"] = "1024"  # read when moto is imported

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import run_simple

_app = DomainDispatcherApplication(create_backend_app)
_one = threading.Lock()


def _answer(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    with _one:
        return list(_app(environ, start_response))


def _end_with_input() -> None:
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    threading.Thread(target=_end_with_input, daemon=True).start()
    run_simple("127.0.0.1", int(sys.argv[1]), _answer, threaded=True)
