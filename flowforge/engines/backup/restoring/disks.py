"""How much is free on the disk of a server, where that disk is this machine's."""

from __future__ import annotations

import shutil
import struct
from pathlib import Path
from typing import Any

import psycopg

from flowforge.rules.addresses import PostgresAddress

_LOOPBACK = ("127.0.0.1", "::1", "localhost")


def free_bytes(
    session: psycopg.Connection[Any], address: PostgresAddress, system_identifier: str
) -> int | None:
    """What is free where a server keeps its data, or `None` where that cannot be seen from here.

    The data folder counts as that server's only if the identifier in it is: a server behind a
    forwarded port or in a container may name a folder that exists here as well.
    """
    if not (address.host.startswith("/") or address.host in _LOOPBACK):
        return None
    try:
        row = session.execute("SELECT current_setting('data_directory')").fetchone()
        assert row is not None
        folder = Path(row[0])
        with (folder / "global" / "pg_control").open("rb") as control:
            (number,) = struct.unpack("=Q", control.read(8))
        return shutil.disk_usage(folder).free if str(number) == system_identifier else None
    except (psycopg.errors.InsufficientPrivilege, OSError):
        return None
