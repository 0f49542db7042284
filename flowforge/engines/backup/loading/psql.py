"""`psql` as the one that runs what a dump wrote, and what its words mean when it fails.

It runs the text in its order and stops at the first error. A stream that breaks off looks to it
like the end of its input, so a text counts only when both ends say that it was whole.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
from collections.abc import Iterable

from flowforge.engines.backup.dumping import pgdump
from flowforge.engines.postgres import connection
from flowforge.engines.postgres.installations import Installation
from flowforge.errors import Damaged, Refused, Unavailable
from flowforge.rules import tools
from flowforge.rules.addresses import PostgresAddress
from flowforge.rules.backups import Manifest

_ERROR = re.compile(r"^(?:psql:<stdin>:\d+: )?(?:ERROR|FATAL): +(.*)$", re.MULTILINE)
_MISSING = (
    (re.compile(r'extension "([^"]+)" is not available|could not open extension control file'),
     "an extension is not installed there"),
    (re.compile(r"could not access file|could not load lib"), "a library is not installed there"),
    (re.compile(r"collation .* does not exist|invalid locale|could not create locale|ICU is not"),
     "a locale is not installed there"),
    (re.compile(r"unrecognized configuration parameter"), "a setting is unknown there"),
    (re.compile(r'role "([^"]+)" does not exist'), "a role does not exist there"),
)  # fmt: skip
_FULL = re.compile(r"No space left on device|could not extend file|Disk quota exceeded")
_BULK_LOAD = {"synchronous_commit": "off", "statement_timeout": "0", "lock_timeout": "0"}


class LoadFailed(Damaged):
    """The copy did not load. `missing` says what the server lacks, when that is the reason."""

    missing: str | None = None


def bulk_settings(manifest: Manifest) -> dict[str, str]:
    """The settings of a session that loads a copy."""
    return _BULK_LOAD | {"lc_monetary": manifest.database.lc_monetary}


def check_reads(installation: Installation, manifest: Manifest) -> None:
    """Make sure that a `psql` knows the words of the `pg_dump` that wrote a copy.

    Raises:
        Refused: It is too old.
    """
    written = manifest.tool_versions.get("pg_dump")
    why = tools.why_unreadable(installation.version, written) if written else None
    if why:
        raise Refused(
            f"{manifest.name} cannot be read with the programs here: {why}.",
            hint="Install PostgreSQL's client programs "
            f"{tools.fitting_psql(installation.major)} or newer, or set FLOWFORGE_POSTGRES_BIN to "
            "the folder of such.",
        )


def run(
    texts: Iterable[bytes],
    manifest: Manifest,
    installation: Installation,
    address: PostgresAddress,
    database: str,
    *,
    at_once: bool = False,
) -> None:
    """Run a text in a database.

    Args:
        texts: The text; if it breaks off with an error, nothing more of it is run.
        manifest: The copy it is of.
        installation: Whose `psql` to run.
        address: The server.
        database: The database.
        at_once: Run it in one transaction, which ends when the text has ended well.

    Raises:
        Refused: This `psql` is too old for the text; nothing was sent.
        LoadFailed: The server refused something in it.
        Unavailable: The server went away.
    """
    check_reads(installation, manifest)
    command = [installation.program("psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", "--no-password"]
    process = subprocess.Popen(
        [*command, *(("-1", "-f", "-") if at_once else ())],
        env=connection.client_environment(address, database, bulk_settings(manifest)),
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    assert process.stdin is not None and process.stderr is not None
    words = pgdump.Words(process.stderr)
    try:
        for text in texts:
            process.stdin.write(text)
    except BrokenPipeError:
        pass  # psql stopped at an error; its words say which
    except BaseException:
        process.kill()
        raise
    finally:
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        status = process.wait()
        said = words.finish()
    if status != 0:
        raise _explain(said, status, manifest)


def failed(said: str, manifest: Manifest) -> LoadFailed:
    """What a server's refusal means for a copy; `said` is its error, without details."""
    failure = LoadFailed(
        f"{manifest.name} does not load: {said[:300]}",
        hint="Read which object it names; an extension, role or locale may be missing there.",
    )
    failure.missing = next((why for sign, why in _MISSING if sign.search(said)), None)
    return failure


def unavailable(said: str, manifest: Manifest) -> Unavailable:
    """What the end of a session while a copy is loaded means; `said` is the server's word."""
    if _FULL.search(said):
        return Unavailable(
            f"The server's disk filled while {manifest.name} was loaded: {said[:300]}",
            hint="Free its disk: the restore's plan says how much it needs. Then run it again.",
        )
    return Unavailable(
        f"The server went away while {manifest.name} was loaded: {said[:300]}",
        hint="Check that server's disk and memory, then run it again.",
    )


def _explain(said: str, status: int, manifest: Manifest) -> LoadFailed | Unavailable:
    found = _ERROR.search(said)
    first = found[1] if found else f"psql ended with status {status}"
    ended = status == 2 or status < 0 or "server closed the connection" in said
    if ended or _FULL.search(said):
        return unavailable(first, manifest)
    return failed(first, manifest)
