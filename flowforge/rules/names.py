"""Names people type, and the keys under which copies are stored.

A database may be called anything PostgreSQL allows, `../..` and newlines included. In a key it is
percent-encoded, so a copy never lands outside its own prefix and every name can be read back.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import cast
from urllib.parse import quote, unquote

from flowforge.errors import Refused
from flowforge.rules.proofs import Level, ProofMark, Verdict

_BLOCK_NAME = re.compile(r"^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$")
_COPY_NAME = re.compile(r"^backup-\d{8}-\d{6}$")
_PROOF_FILE = re.compile(r"/(\d{8}T\d{6}\.\d{6}Z)-L([0-4])-(proven|failed|inconclusive)\.json$")
_SECRET_IN_URL = re.compile(r"[a-z][a-z0-9+.-]*://[^/\s@]*:[^/\s@]+@", re.IGNORECASE)

WHOLE = "(all)"
"""What stands for the database where all of a server are copied together: a Redis."""

DATA_SUFFIX = ".sql.gz"
RDB_SUFFIX = ".rdb.gz"
SEALED_SUFFIX = ".age"
MANIFEST_SUFFIX = ".manifest.json"


def check_system_name(name: str, *, kind: str = "server") -> str:
    """Return the name of a registered system, unchanged.

    Raises:
        Refused: It is not a name, or it is an address with a password in it.
    """
    if looks_like_secret(name):
        raise Refused(
            f"The {kind} was given as an address with a password, not as a name.",
            hint="Save it once with `flowforge database add NAME` (the URL on standard input), "
            "then use NAME.",
        )
    if not _BLOCK_NAME.match(name):
        raise Refused(
            f"{name!r} is not a {kind} name.",
            hint="Use 1-63 lowercase letters, digits and dashes, for example `shop`.",
        )
    return name


def looks_like_secret(text: str) -> bool:
    """Tell whether a text holds a URL with a password or a conninfo with one."""
    return bool(_SECRET_IN_URL.search(text)) or "password=" in text.lower()


def check_database_name(name: str) -> str:
    """Return the name of a database, unchanged.

    Raises:
        Refused: PostgreSQL could not have a database of this name, or it is a connection string.
    """
    if looks_like_secret(name):
        raise Refused(
            "The database was given as an address with a password, not as a name.",
            hint="Save it once with `flowforge database add NAME` (the URL on standard input).",
        )
    if not name or "\0" in name or len(name.encode()) > 63:
        raise Refused(
            f"{name!r} is not a database name.",
            hint="A PostgreSQL database name has 1 to 63 bytes and no NUL.",
        )
    return name


def copy_name(at: datetime) -> str:
    """Name a copy after the second its snapshot was taken, in UTC."""
    return f"backup-{at.astimezone(UTC):%Y%m%d-%H%M%S}"


def copy_time(name: str) -> datetime:
    """Read the snapshot's second back from a copy's name.

    Raises:
        Refused: It is not the name of a copy.
    """
    return datetime.strptime(check_copy_name(name), "backup-%Y%m%d-%H%M%S").replace(tzinfo=UTC)


def check_copy_name(name: str) -> str:
    """Return the name of a copy, unchanged.

    Raises:
        Refused: It does not read `backup-YYYYmmdd-HHMMSS`.
    """
    if not _COPY_NAME.match(name):
        shown = "That" if looks_like_secret(name) else repr(name)
        raise Refused(
            f"{shown} is not the name of a copy.",
            hint="Copies read backup-YYYYmmdd-HHMMSS; `flowforge backup list` shows them.",
        )
    return name


def prefix(server: str, database: str) -> str:
    """The place in a store where one database's copies live, with a closing slash."""
    if database == WHOLE:
        return f"redis/{_encode(server)}/"
    return f"{server_prefix(server)}{_encode(database)}/"


def server_prefix(server: str) -> str:
    """The place in a store where the copies of one server's databases live."""
    return f"postgres/{_encode(server)}/"


def parse_prefix(key: str) -> tuple[str, str] | None:
    """Read (server, database) back from a key below `prefix`; `None` for any other key."""
    parts = key.split("/")
    if len(parts) > 2 and parts[0] == "redis":
        return unquote(parts[1]), WHOLE
    if len(parts) < 4 or parts[0] != "postgres":
        return None
    return unquote(parts[1]), unquote(parts[2])


def data_key(server: str, database: str, name: str, *, sealed: bool = False) -> str:
    """Where a copy's data lies."""
    suffix = RDB_SUFFIX if database == WHOLE else DATA_SUFFIX
    return prefix(server, database) + name + suffix + (SEALED_SUFFIX if sealed else "")


def is_data(key: str) -> bool:
    """Tell whether a key is that of a copy's data or globals, sealed or not."""
    return key.removesuffix(SEALED_SUFFIX).endswith((DATA_SUFFIX, RDB_SUFFIX))


def globals_key(server: str, database: str, name: str, *, sealed: bool = False) -> str:
    """Where the roles and settings of the server lie that were copied with a database."""
    suffix = DATA_SUFFIX + (SEALED_SUFFIX if sealed else "")
    return prefix(server, database) + name.replace("backup-", "globals-", 1) + suffix


def manifest_key(server: str, database: str, name: str) -> str:
    """Where a copy's manifest lies; a copy exists when this does."""
    return prefix(server, database) + name + MANIFEST_SUFFIX


def proofs_prefix(server: str, database: str, name: str) -> str:
    """The place of a copy's proofs."""
    return f"{prefix(server, database)}proofs/{name}/"


def keys_prefix(server: str, database: str, name: str) -> str:
    """The place of the wrapped keys of a sealed copy."""
    return f"{prefix(server, database)}keys/{name}/"


def is_wrapped_key(key: str) -> bool:
    """Tell whether a key of a store is that of a copy's wrapped key, without which it is lost."""
    return "/keys/" in key and key.endswith(SEALED_SUFFIX)


def hold_key(server: str, database: str, name: str) -> str:
    """Where it is written that a copy must stay, whatever the retention rule says."""
    return f"{prefix(server, database)}holds/{name}.json"


def owner_of(key: str) -> str | None:
    """The copy an object beside a manifest belongs to, as its key without a suffix.

    `None` for a manifest itself and for anything that is not part of a copy.
    """
    place, _, file = key.rpartition("/")
    plain = file.removesuffix(SEALED_SUFFIX)
    if plain.endswith((DATA_SUFFIX, RDB_SUFFIX)):
        stem = (
            plain.removesuffix(DATA_SUFFIX)
            .removesuffix(RDB_SUFFIX)
            .replace("globals-", "backup-", 1)
        )
        return f"{place}/{stem}" if _COPY_NAME.match(stem) else None
    for kind in ("proofs", "keys", "holds", "accepted"):
        base, slash, rest = key.partition(f"/{kind}/")
        stem = rest.partition("/")[0].removesuffix(".json")
        if slash and _COPY_NAME.match(stem):
            return f"{base}/{stem}"
    return None


def accepted_key(server: str, database: str, name: str) -> str:
    """Where it is written that a copy far smaller than the one before is as it should be."""
    return f"{prefix(server, database)}accepted/{name}.json"


def proof_key(server: str, database: str, name: str, mark: ProofMark) -> str:
    """Where one proof lies; proofs are added, never edited. What counts of it is in its name."""
    moment = f"{mark.checked_at.astimezone(UTC):%Y%m%dT%H%M%S.%fZ}"
    return f"{proofs_prefix(server, database, name)}{moment}-L{mark.level:d}-{mark.verdict}.json"


def read_proof_key(key: str) -> ProofMark | None:
    """What counts of a proof, from its key; `None` when the key does not say it."""
    found = _PROOF_FILE.search(key)
    if found is None:
        return None
    at = datetime.strptime(found[1], "%Y%m%dT%H%M%S.%fZ").replace(tzinfo=UTC)
    return ProofMark(Level(int(found[2])), cast(Verdict, found[3]), at)


def summaries_prefix(server: str, database: str) -> str:
    """The place of the summaries that spare a listing from reading every manifest."""
    return f"{prefix(server, database)}summaries/"


def drills_prefix(server: str, database: str) -> str:
    """The place of the history of one database's drills."""
    return f"{prefix(server, database)}drills/"


def drill_key(server: str, database: str, at: datetime) -> str:
    """Where one drill's record lies, below its year and month in UTC."""
    moment = at.astimezone(UTC)
    return f"{drills_prefix(server, database)}{moment:%Y/%m}/{moment:%Y%m%dT%H%M%S.%fZ}.json"


def _encode(name: str) -> str:
    return quote(name, safe="").replace(".", "%2E")
