"""`pg_dump` as a stream of text, and what its words mean when it fails.

Its exit status is the only sign that the text is whole: when a server process dies in the middle of
a table, `pg_dump` still writes the end mark of that table, and the text up to there loads without
an error.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import IO

from flowforge.engines.backup.dumping import tablelocks
from flowforge.engines.backup.dumping.survey import Survey
from flowforge.engines.postgres import connection
from flowforge.engines.postgres.installations import Installation
from flowforge.errors import FlowForgeError, Refused, Unavailable
from flowforge.rules.addresses import PostgresAddress

CHUNK_BYTES = 256 * 1024
_PIPE_BYTES = 1024 * 1024
_STOP_CHECK_MILLISECONDS = 500
_TOO_LARGE = (
    "invalid memory alloc request size",
    "cannot enlarge string buffer",
    "string buffer exceeds",
)


class RowTooLarge(Refused):
    """A row whose text PostgreSQL cannot make."""


_UNKNOWN_BEFORE_17 = b"SET transaction_timeout = 0;\n"


def dump_settings(lc_monetary: str) -> dict[str, str]:
    """Session settings under which two dumps of equal data are equal text."""
    return {
        "timezone": "UTC",
        "lc_monetary": lc_monetary,
        "row_security": "off",
        "bytea_output": "hex",
        "quote_all_identifiers": "off",
        "standard_conforming_strings": "on",
    }


def timeouts(major: int) -> tuple[str, ...]:
    """The settings that end what takes long, of a server of a major version.

    `pg_dump` switches them off for itself, whatever its role or database is given.
    """
    since = {"idle_session_timeout": 14, "transaction_timeout": 17}
    always = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")
    return (*always, *(name for name, first in since.items() if major >= first))


def stream_dump(
    installation: Installation,
    address: PostgresAddress,
    database: str,
    *,
    survey: Survey,
    snapshot: str | None = None,
    switches: Sequence[str] = (),
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[bytes]:
    """Dump a database as text.

    Args:
        installation: Whose `pg_dump` to run.
        address: The server.
        database: The database.
        survey: What was seen of it.
        snapshot: An exported snapshot to read in.
        switches: What else `pg_dump` is told, such as `--section=pre-data`.
        stop: Asked about twice a second; once true the dump is abandoned and the text just ends.

    Raises:
        Refused: A right is missing.
        Unavailable: The server went away or a lock was not had in time.
    """
    command = [installation.program("pg_dump"), "--no-password", "--format=plain"]
    command += [f"--lock-wait-timeout={tablelocks.WAIT_SECONDS:.0f}s"]
    # Else it is the one that a role or a database was given, which may not hold every character.
    command += [f"--encoding={survey.database.encoding}"]
    command += [f"--snapshot={snapshot}"] if snapshot else []
    command += switches
    settings = dump_settings(survey.database.lc_monetary)
    process = start(command, connection.client_environment(address, database, settings))
    assert process.stdout is not None and process.stderr is not None
    words = Words(process.stderr)
    ended = False
    try:
        first = survey.server.major < 17 and "--data-only" not in switches
        for chunk in _read(process.stdout.fileno(), stop):
            if first:
                chunk, first = chunk.replace(_UNKNOWN_BEFORE_17, b"", 1), False
            yield chunk
        ended = not stop()
    finally:
        if not ended:
            process.kill()
        process.stdout.close()
        status = process.wait()
        said = words.finish()
    if ended and status != 0:
        raise explain_failure(said, status, address, database)


def _read(pipe: int, stop: Callable[[], bool]) -> Iterator[bytes]:
    """What comes through a pipe, until its end or until it is to stop."""
    waiting = select.poll()
    waiting.register(pipe, select.POLLIN)
    while not stop():
        if waiting.poll(_STOP_CHECK_MILLISECONDS):
            chunk = os.read(pipe, CHUNK_BYTES)
            if not chunk:
                return
            yield chunk


def start(
    command: list[str], environment: dict[str, str], stdin: int = subprocess.DEVNULL
) -> subprocess.Popen[bytes]:
    """Start a program whose output is read through as large a pipe as is to be had."""
    process = subprocess.Popen(
        command,
        env=environment,
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    with contextlib.suppress(OSError):  # a smaller pipe is only slower
        fcntl.fcntl(process.stdout, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    return process


class Words:
    """Listens to a program's standard error without ever blocking it; keeps the last few lines."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self._pipe = pipe
        self._kept = b""
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def _listen(self) -> None:
        for line in self._pipe:
            self._kept = (self._kept + line)[-8192:]

    def finish(self) -> str:
        """What was said, once the program has ended."""
        self._listener.join(timeout=10)
        self._pipe.close()
        return self._kept.decode("utf-8", "backslashreplace")


def explain_failure(
    said: str, status: int, address: PostgresAddress, database: str
) -> FlowForgeError:
    """Turn the words of a failed client program into one of the three kinds.

    Only its error lines are repeated: details and contexts can hold rows.
    """
    errors = [line for line in said.splitlines() if "rror:" in line or "ERROR:" in line]
    first = (errors[0] if errors else f"it ended with status {status}")[:300]
    text = said.lower()
    place = f"{database!r} on {address.name}"
    if connection.is_conflict(text):
        return connection.ended_by_conflict(address.name)
    if "permission denied" in text or "must be owner" in text:
        return Refused(
            f"The dump of {place} was denied a right: {first}",
            hint=f"GRANT pg_read_all_data TO {address.user}; or back up as the owner.",
        )
    if "row-level security" in text or "row security" in text:
        return Refused(
            f"Row security would hide rows of {place}: {first}",
            hint=f"ALTER ROLE {address.user} BYPASSRLS; or back up as the owner.",
        )
    if "out of shared memory" in text:
        return Refused(
            f"The server cannot lock all tables of {place} for as many sessions.",
            hint=tablelocks.TOO_FEW_LOCKS,
        )
    if any(words in text for words in _TOO_LARGE):
        return RowTooLarge(
            f"A row of {place} is too large to be sent as text: {first}",
            hint="PostgreSQL writes at most 1 GB a row: split the value, or move it out of the "
            "table into a large object.",
        )
    # pg_dump keeps --lock-wait-timeout by means of the other one.
    if "lock timeout" in text or "statement timeout" in text:
        return Unavailable(
            f"A table of {place} stayed locked for {tablelocks.WAIT_SECONDS:.0f} s.",
            hint="A migration or VACUUM FULL holds it; run the backup again when it is done.",
        )
    return Unavailable(
        f"The dump of {place} broke off: {first}",
        hint="Check that the server is up, then run it again. Nothing was kept of this try.",
    )
