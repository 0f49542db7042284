"""From what a person has in an emergency to the values that engines work with."""

from __future__ import annotations

import getpass
import os
import re
import sys
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import SecretStr

from flowforge.engines.backup.seals import keys
from flowforge.engines.backup.stores.store import Store, open_store
from flowforge.errors import Refused
from flowforge.rules import names
from flowforge.rules.addresses import (
    FolderAddress,
    PostgresAddress,
    S3Address,
    StoreAddress,
    parse_postgres_url,
)

STORE_NAME = "store"
TARGET_NAME = "target"
_SPAN = re.compile(r"^(\d+)\s*(m|min|h|d)$")
_UNITS = {"m": 60, "min": 60, "h": 3600, "d": 86400}


def open_place(where: str, endpoint_url: str | None = None, key: Path | None = None) -> Store:
    """Open the store at a path or an `s3://bucket/prefix`, with a recovery key if there is one.

    The keys of a bucket are the usual variables (`AWS_ACCESS_KEY_ID` and so on) or the machine's
    own role.

    Raises:
        Refused: It is neither, or there is no such folder.
    """
    address = parse_place(where, endpoint_url)
    return open_store(address.model_copy(update={"keys": _read_key(key)}))


def parse_place(where: str, endpoint_url: str | None = None) -> StoreAddress:
    """Read where a store is.

    Raises:
        Refused: It is neither a folder that is there nor a bucket.
    """
    if names.looks_like_secret(where):
        raise Refused(
            "The store was given with a password in it.",
            hint="Put the keys into AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.",
        )
    if where.startswith("s3://"):
        parts = urlsplit(where)
        prefix = parts.path.strip("/")
        return S3Address(
            name=STORE_NAME,
            bucket=parts.netloc,
            prefix=f"{prefix}/" if prefix else "",
            region=os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION"),
            endpoint_url=endpoint_url or os.environ.get("AWS_ENDPOINT_URL_S3"),
            recipients=_recipients(),
        )
    folder = Path(where).expanduser().resolve()
    if not folder.is_dir():
        raise Refused(
            f"{folder} is not a folder.",
            hint="Give the folder that holds `postgres/`, or s3://BUCKET/PREFIX.",
        )
    return FolderAddress(name=STORE_NAME, folder=folder, recipients=_recipients())


def _read_key(file: Path | None) -> tuple[SecretStr, ...]:
    """The recovery key in a file; a file that only the environment names need not be there."""
    named = os.environ.get("FLOWFORGE_RECOVERY_KEY_FILE")
    path = file or (Path(named) if named and Path(named).exists() else None)
    if path is None:
        return ()
    try:
        key = SecretStr(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise Refused(
            f"The recovery key {path} cannot be read.",
            hint="Give the file that `age-keygen` wrote, and check its permissions.",
        ) from error
    keys.read_identity(key)
    return (key,)


def _recipients() -> tuple[str, ...]:
    """Whom a new copy is sealed to: age public keys, separated by spaces."""
    return tuple(os.environ.get("FLOWFORGE_STORE_RECIPIENTS", "").split())


def read_target(variable: str | None) -> PostgresAddress:
    """The server to work on: its URL from a variable of the environment or standard input.

    Raises:
        Refused: There is none, or it cannot be read.
    """
    if variable is not None:
        url = os.environ.get(variable, "")
    elif sys.stdin.isatty():
        url = getpass.getpass("PostgreSQL URL of the server (not shown): ")
    else:
        url = sys.stdin.readline()
    if not url.strip():
        raise Refused(
            f"The variable {variable} is empty." if variable else "No PostgreSQL URL was given.",
            hint="Put postgresql://USER:PASSWORD@HOST:PORT/DATABASE into a variable and name it "
            "with --url-env, or give it on standard input.",
        )
    return parse_postgres_url(url, name=TARGET_NAME)


def parse_span(text: str) -> timedelta:
    """Read a span of time such as `7h`.

    Raises:
        Refused: It is not one.
    """
    found = _SPAN.match(text.strip().lower())
    if not found:
        raise Refused(f"{text!r} is not a span of time.", hint="Write it as 45m, 7h or 2d.")
    return timedelta(seconds=int(found[1]) * _UNITS[found[2]])
