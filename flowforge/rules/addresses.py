"""Where a system is: plain frozen values that blocks hand down to engines.

A PostgreSQL address is read the way libpq reads it, so every URL `psql` accepts is accepted here,
and so are the SQLAlchemy spellings (`postgresql+asyncpg://`) that libpq would not understand.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal
from urllib.parse import parse_qsl, unquote, urlsplit

from pydantic import Field, SecretStr

from flowforge.errors import Refused
from flowforge.rules.values import Value

_SCHEME = re.compile(r"^postgres(?:ql)?(?:\+[a-z0-9_]+)?$")
_URL_HINT = (
    "Give it as postgresql://USER:PASSWORD@HOST:PORT/DATABASE, with odd characters %-encoded."
)
_KNOWN_OPTIONS = frozenset(
    {
        "sslmode",
        "sslrootcert",
        "sslcert",
        "sslkey",
        "sslcrl",
        "channel_binding",
        "gssencmode",
        "target_session_attrs",
        "connect_timeout",
        "application_name",
        "options",
        "keepalives",
        "keepalives_idle",
        "keepalives_interval",
        "keepalives_count",
    }
)


class PostgresAddress(Value):
    """One PostgreSQL server and how to enter it."""

    name: str
    """What people call this server, for example `shop`; part of the place its copies live."""

    host: str
    """A host name, an IP address, or a folder that holds the server's Unix socket."""

    port: int = Field(default=5432, ge=1, le=65535)
    user: str
    password: SecretStr = SecretStr("")
    database: str = "postgres"
    """The database meant when none is named."""

    options: dict[str, str] = Field(default_factory=dict)
    """libpq connection options such as `sslmode`."""

    @property
    def where(self) -> str:
        """The address as it may be shown: no password."""
        return f"{self.user}@{self.host}:{self.port}"


class FolderAddress(Value):
    """A folder that keeps copies."""

    name: str
    folder: Path
    """Copies live below it by server and database."""

    recipients: tuple[str, ...] = ()
    """age public keys every copy kept here is sealed to; none means that copies are not sealed."""

    keys: tuple[SecretStr, ...] = ()
    """age secret keys that open sealed copies; only who restores or examines them is given any."""


class S3Address(Value):
    """A bucket that keeps copies."""

    name: str
    bucket: str
    prefix: str = ""
    """Put before every key, with its own closing slash."""

    region: str | None = None
    endpoint_url: str | None = None
    """Where an S3-alike listens; AWS itself needs none."""

    access_key_id: str | None = None
    """No keys at all means those of the machine or pod (its role)."""

    secret_access_key: SecretStr | None = None
    session_token: SecretStr | None = None
    lock_days: int | None = Field(default=None, ge=1, le=36_500)
    """How many days the bucket lets nobody delete a new copy; its object lock must be on."""

    lock_mode: Literal["governance", "compliance"] = "governance"
    """`governance`: an account with the right to may end a lock early. `compliance`: nobody may."""

    recipients: tuple[str, ...] = ()
    """age public keys every copy kept here is sealed to; none means that copies are not sealed."""

    keys: tuple[SecretStr, ...] = ()
    """age secret keys that open sealed copies; only who restores or examines them is given any."""

    @property
    def where(self) -> str:
        """The place as people write it."""
        return f"s3://{self.bucket}/{self.prefix}"


StoreAddress = FolderAddress | S3Address
"""One place that keeps copies."""


def parse_postgres_url(url: str, *, name: str) -> PostgresAddress:
    """Read a PostgreSQL URL into an address.

    Args:
        url: `postgresql://`, `postgres://` or a SQLAlchemy form such as `postgresql+asyncpg://`.
        name: What the server will be called.

    Raises:
        Refused: It is not a URL of one PostgreSQL server. The URL is never repeated in the message.
    """
    try:
        parts = urlsplit(url.strip())
        port = parts.port
    except ValueError as error:
        raise Refused("The database URL cannot be read.", hint=_URL_HINT) from error
    if not _SCHEME.match(parts.scheme):
        raise Refused("The database URL is not a PostgreSQL URL.", hint=_URL_HINT)
    if "," in parts.netloc.rpartition("@")[2]:
        raise Refused("The database URL names several hosts.", hint="Name the one host to use.")
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    user = unquote(parts.username or query.pop("user", ""))
    if not user:
        raise Refused("The database URL names no user.", hint=_URL_HINT)
    return PostgresAddress(
        name=name,
        host=unquote(parts.hostname or "") or query.pop("host", "") or "127.0.0.1",
        port=port or int(query.pop("port", "5432")),
        user=user,
        password=SecretStr(unquote(parts.password or query.pop("password", ""))),
        database=unquote(parts.path.removeprefix("/")) or query.pop("dbname", "") or user,
        options=_libpq_options(query),
    )


def _libpq_options(query: dict[str, str]) -> dict[str, str]:
    options = dict(query)
    if "ssl" in options:  # asyncpg's spelling of sslmode
        spelled = options.pop("ssl")
        options.setdefault("sslmode", {"true": "require", "false": "disable"}.get(spelled, spelled))
    unknown = sorted(set(options) - _KNOWN_OPTIONS)
    if unknown:
        raise Refused(
            f"The database URL has options FlowForge does not pass on: {', '.join(unknown)}.",
            hint=f"Remove them; known are {', '.join(sorted(_KNOWN_OPTIONS))}.",
        )
    return options
