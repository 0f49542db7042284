"""Fetch a snapshot as a replica would, with `redis-cli --rdb -`.

The password is in the environment of the program and never in its arguments. The program may end
well on a snapshot that is not whole, so whoever calls this reads what arrives to its end.
"""

from __future__ import annotations

import os
import select
import subprocess
import tempfile
from collections.abc import Generator

from flowforge.engines.redis import connection, programs
from flowforge.errors import FlowForgeError, Refused, Unavailable
from flowforge.rules.redis_addresses import RedisAddress

QUIET_SECONDS = 900.0
"""A server that sends nothing for so long is given up; it first writes its snapshot to a disk."""

_CHUNK_BYTES = 1024 * 1024
_END_SECONDS = 30.0
_CERTIFICATES = (("--cacert", "ssl_ca_certs"), ("--cert", "ssl_certfile"), ("--key", "ssl_keyfile"))


def receive(
    address: RedisAddress, *, quiet_seconds: float = QUIET_SECONDS
) -> Generator[bytes, None, None]:
    """The bytes of a snapshot, and perhaps the mark that the server puts after them.

    Args:
        address: The server.
        quiet_seconds: How long it may send nothing.

    Raises:
        Refused: The server does not let us in, or the user may not replicate.
        Unavailable: It went away or stands still.
    """
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            command(address), env=_environment(address), stdout=subprocess.PIPE, stderr=said
        )
        assert process.stdout is not None
        try:
            while chunk := _next(process.stdout.fileno(), address, quiet_seconds):
                yield chunk
            process.wait(timeout=_END_SECONDS)
        finally:
            process.kill()
            process.stdout.close()
            process.wait()
        if process.returncode != 0:
            said.seek(0)
            raise _explain(address, said.read().decode("utf-8", "replace"))


def command(address: RedisAddress) -> list[str]:
    """What is run; nothing in it is secret."""
    words = [programs.find("redis-cli"), "--no-auth-warning"]
    words += ["-s", address.host] if address.is_socket else ["-h", address.host]
    words += [] if address.is_socket else ["-p", str(address.port)]
    if address.user:
        words += ["--user", address.user]
    if address.tls:
        words += ["--tls", "--sni", address.host]
        for option, field in _CERTIFICATES:
            if (file := getattr(address, field)) is not None:
                words += [option, file]
    return [*words, "--rdb", "-"]


def _environment(address: RedisAddress) -> dict[str, str]:
    told = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    if password := address.password.get_secret_value():
        told["REDISCLI_AUTH"] = password
    return told


def _next(descriptor: int, address: RedisAddress, quiet_seconds: float) -> bytes:
    ready, _, _ = select.select([descriptor], [], [], quiet_seconds)
    if not ready:
        raise Unavailable(
            f"{address.name} sent nothing for {quiet_seconds:,.0f} s.",
            hint="Look at its load and its log (a snapshot it cannot write), then run it again.",
        )
    return os.read(descriptor, _CHUNK_BYTES)


def _explain(address: RedisAddress, said: str) -> FlowForgeError:
    """What the program's last words mean."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    last = lines[-1] if lines else "nothing was said"
    if "NOPERM" in said:
        return connection.refused_right(address.name, address.user, last)
    if "WRONGPASS" in said or "NOAUTH" in said:
        return connection.refused_entry(address.name)
    if "unknown command" in said:
        return Refused(
            f"SYNC is renamed or disabled on {address.name}: {last[:200]}",
            hint="A copy is taken as a replica would take it. Allow SYNC there, or register a "
            "replica that does; on ElastiCache register the replication group.",
        )
    return Unavailable(
        f"{address.name} did not send its snapshot: {last[:200]}",
        hint="Look at the server's log (memory for a fork, client-output-buffer-limit replica), "
        "then run it again.",
    )
