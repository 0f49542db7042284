"""Where a Redis is: a server that is spoken to, or a replication group that Amazon looks after."""

from __future__ import annotations

from urllib.parse import parse_qsl, unquote, urlsplit

from pydantic import Field, SecretStr

from flowforge.errors import Refused
from flowforge.rules.values import Value

_URL_HINT = (
    "Give it as redis://USER:PASSWORD@HOST:PORT (rediss:// with TLS), with odd characters "
    "%-encoded, or as elasticache://REPLICATION-GROUP?region=REGION."
)
_TLS_OPTIONS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")


class RedisAddress(Value):
    """One Redis server and how to enter it."""

    name: str
    """What people call this server; part of the place its copies live."""

    host: str
    """A host name, an IP address, or the path of the server's Unix socket."""

    port: int = Field(default=6379, ge=1, le=65535)
    user: str | None = None
    """An ACL user; none means the default one."""

    password: SecretStr = SecretStr("")
    tls: bool = False
    """Whether to speak TLS; then the certificate must be valid and of this host."""

    ssl_ca_certs: str | None = None
    """File of the authorities to trust; none means the system's."""

    ssl_certfile: str | None = None
    ssl_keyfile: str | None = None

    @property
    def is_socket(self) -> bool:
        """Whether it is reached by a Unix socket."""
        return self.host.startswith("/")

    @property
    def where(self) -> str:
        """The address as it may be shown: no password."""
        user = f"{self.user}@" if self.user else ""
        place = self.host if self.is_socket else f"{self.host}:{self.port}"
        return f"{user}{place}" + (" (TLS)" if self.tls else "")


class ElastiCacheAddress(Value):
    """A replication group of Amazon ElastiCache, which lets nobody copy its data by replication."""

    name: str
    replication_group: str
    region: str
    endpoint_url: str | None = None
    """Where an API like Amazon's listens; AWS itself needs none."""

    access_key_id: str | None = None
    """No keys at all means those of the machine or pod (its role)."""

    secret_access_key: SecretStr | None = None

    @property
    def where(self) -> str:
        """The place as people write it."""
        return f"elasticache://{self.replication_group}?region={self.region}"


AnyRedis = RedisAddress | ElastiCacheAddress


def parse_redis_url(url: str, *, name: str) -> AnyRedis:
    """Read a URL into an address.

    A database number at its end is read and not kept: a copy is of all databases.

    Args:
        url: `redis://`, `rediss://`, `unix://` or `elasticache://`.
        name: What the Redis will be called.

    Raises:
        Refused: It is not such a URL. The URL is never repeated in the message.
    """
    try:
        parts = urlsplit(url.strip())
        port = parts.port
    except ValueError as error:
        raise Refused("The Redis URL cannot be read.", hint=_URL_HINT) from error
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    user, password = unquote(parts.username or ""), SecretStr(unquote(parts.password or ""))
    if parts.scheme == "elasticache":
        return _elasticache(name, parts.hostname or "", user, password, query)
    if parts.scheme not in ("redis", "rediss", "unix"):
        raise Refused("The Redis URL is not of a kind FlowForge knows.", hint=_URL_HINT)
    query.pop("db", None)
    _check_options(query, _TLS_OPTIONS if parts.scheme == "rediss" else ())
    is_socket = parts.scheme == "unix"
    if not is_socket and parts.path.strip("/") and not parts.path.strip("/").isdigit():
        raise Refused("The Redis URL ends in something that is no number.", hint=_URL_HINT)
    return RedisAddress(
        name=name,
        host=unquote(parts.path) if is_socket else parts.hostname or "127.0.0.1",
        port=port or 6379,
        user=user or None,
        password=password,
        tls=parts.scheme == "rediss",
        **query,
    )


def _elasticache(
    name: str, group: str, user: str, password: SecretStr, query: dict[str, str]
) -> ElastiCacheAddress:
    _check_options(query, ("region", "endpoint_url"))
    if not group or not query.get("region"):
        raise Refused(
            "The ElastiCache URL names no replication group or no region.", hint=_URL_HINT
        )
    return ElastiCacheAddress(
        name=name,
        replication_group=group,
        access_key_id=user or None,
        secret_access_key=password if user else None,
        **query,
    )


def _check_options(query: dict[str, str], known: tuple[str, ...]) -> None:
    unknown = sorted(set(query) - set(known))
    if unknown:
        raise Refused(
            f"The Redis URL has options FlowForge does not know: {', '.join(unknown)}.",
            hint=f"Remove them; known here are: {', '.join(known) or 'none'}.",
        )
