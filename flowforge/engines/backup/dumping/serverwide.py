"""What a server keeps outside its databases: roles, their memberships, and settings.

A database restored elsewhere needs its roles first. They are copied beside it with `pg_dumpall`,
without password hashes unless the copy is sealed. A role of a managed server may often not read
them; the copy is good without.
"""

from __future__ import annotations

import subprocess

from pyrage.x25519 import Identity

from flowforge.engines.backup.dumping.packing import add_member
from flowforge.engines.backup.seals import sending
from flowforge.engines.backup.stores.store import Store
from flowforge.engines.postgres import connection
from flowforge.engines.postgres.installations import Installation
from flowforge.rules import names
from flowforge.rules.addresses import PostgresAddress
from flowforge.rules.backups import StoredObject

TRAILER = "-- flowforge: complete globals"
_TIMEOUT_SECONDS = 300


def copy_globals(
    store: Store,
    address: PostgresAddress,
    database: str,
    name: str,
    tools: Installation,
    identity: Identity | None,
) -> StoredObject | str:
    """Copy a server's roles and settings beside a copy; or say why they could not be had."""
    text: bytes | str = "nothing was tried"
    # Only a superuser may read password hashes; everybody else gets the roles without them.
    tries: list[list[str]] = [["--no-role-passwords"]]
    for switches in [[], *tries] if identity else tries:
        text = _dump(address, database, tools, switches)
        if isinstance(text, bytes):
            break
    if isinstance(text, str):
        return f"the server's roles were not copied: {text}"
    key = names.globals_key(address.name, database, name, sealed=identity is not None)
    text += TRAILER.encode() + b"\n"
    with store.upload(key) as upload:
        with sending.send(upload, identity) as sender:
            add_member(sender.assembly, "before-data", [text])
            sent = sender.finish()
        upload.commit()
    return StoredObject(
        key=key,
        size_bytes=sent.size_bytes,
        raw_bytes=len(text),
        sha256=sent.sha256,
        trailer=TRAILER,
    )


def _dump(
    address: PostgresAddress, database: str, tools: Installation, switches: list[str]
) -> bytes | str:
    """The roles and settings as SQL; or why they could not be had."""
    command = [tools.program("pg_dumpall"), "--globals-only", "--no-password", *switches]
    try:
        done = subprocess.run(
            [*command, "-l", database],
            env=connection.client_environment(address, database),
            capture_output=True,
            timeout=_TIMEOUT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return type(error).__name__
    if done.returncode == 0:
        return done.stdout
    said = done.stderr.decode("utf-8", "backslashreplace").strip().splitlines()
    return next((line for line in said if "rror:" in line or "ERROR:" in line), "no reason")[:200]
