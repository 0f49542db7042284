"""FlowForge's settings in Prefect's words, said before Prefect is imported.

Whatever an operator sets as `PREFECT_*` stays, except what would contradict `DATABASE_URL` or open
the server to other origins.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from urllib.parse import quote, urlencode, urlsplit, urlunsplit

from flowforge.rules import addresses
from flowforge.settings import Settings

EVENT_RETENTION_DAYS = 3
RUN_RETENTION_DAYS = 30
CANCELLING_TIMEOUT_SECONDS = 90
HEARTBEAT_RETENTION_SECONDS = 24 * 3600

_LEASES = "prefect.server.concurrency.lease_storage"
_FIXED: Mapping[str, str] = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    "PREFECT_SERVER_METRICS_ENABLED": "false",  # ours are on their own port
    "PREFECT_LOGGING_TO_API_ENABLED": "false",
    "PREFECT_SERVER_EVENTS_RETENTION_PERIOD": f"P{EVENT_RETENTION_DAYS}D",
    # Prefect's own default keeps flow runs and logs for ever. The ledger keeps what must last.
    "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs",
    "PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD": str(RUN_RETENTION_DAYS * 24 * 3600),
    "PREFECT_SERVER_SERVICES_DB_VACUUM_BATCH_SIZE": "1000",
    "PREFECT_SERVER_SERVICES_DB_VACUUM_EVENT_RETENTION_OVERRIDES": json.dumps(
        {"prefect.flow-run.heartbeat": HEARTBEAT_RETENTION_SECONDS}
    ),
    "PREFECT_SERVER_SERVICES_CANCELLATION_CLEANUP_CANCELLING_TIMEOUT_SECONDS": str(
        CANCELLING_TIMEOUT_SECONDS
    ),
    # Kept in memory, leases would be gone with the server, and each run that holds one would end
    # when it next renews it. On disk they are there when the server is back.
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": f"{_LEASES}.filesystem",
    # At start Prefect would import every integration (70 MB, 1.3 s) only to list its blocks;
    # the shell registers block types by itself, once, after it serves.
    "PREFECT_SERVER_REGISTER_BLOCKS_ON_START": "false",
    "PREFECT_SERVER_MEMOIZE_BLOCK_AUTO_REGISTRATION": "false",
}
_SQLALCHEMY = "PREFECT_SERVER_DATABASE_SQLALCHEMY"
_TLS_FILES = {
    "sslrootcert": "PGSSLROOTCERT",
    "sslcert": "PGSSLCERT",
    "sslkey": "PGSSLKEY",
    "sslcrl": "PGSSLCRL",
}


def prefect_environment(settings: Settings, current: Mapping[str, str]) -> dict[str, str]:
    """What to set in the environment before Prefect is imported.

    Args:
        settings: FlowForge's settings.
        current: The environment as it is.

    Raises:
        Refused: `DATABASE_URL` is not the URL of one PostgreSQL database.
    """
    wished = dict(_FIXED)
    home = current.get("PREFECT_HOME") or str(settings.state / "prefect")
    wished["PREFECT_HOME"] = home
    # Prefect copies its UI there; its own folder may belong to somebody else.
    wished["PREFECT_SERVER_UI_STATIC_DIRECTORY"] = f"{home}/ui"
    if settings.redis_url:
        wished |= _redis(settings.redis_url.get_secret_value())
    if settings.jwt_secret:
        wished["PREFECT_SERVER_API_AUTH_STRING"] = auth_string(
            settings.jwt_secret.get_secret_value()
        )
    chosen = {name: value for name, value in wished.items() if name not in current}
    if settings.database_url:
        chosen |= _database(settings.database_url.get_secret_value())
    chosen |= _addresses(settings)
    return chosen


def auth_string(secret: str) -> str:
    """Prefect's `user:password` form of the internal secret."""
    return secret if ":" in secret else f"flowforge:{secret}"


def _addresses(settings: Settings) -> dict[str, str]:
    port = settings.api_port or 8080
    own = f"http://127.0.0.1:{port}"
    return {
        "PREFECT_SERVER_API_HOST": settings.host,
        "PREFECT_SERVER_API_PORT": str(port),
        # The shell answers each browser with the address that browser is on; this is only
        # what Prefect would say by itself.
        "PREFECT_SERVER_UI_API_URL": settings.public_api_url or f"{own}/api",
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": own,
    }


def _database(url: str) -> dict[str, str]:
    address = addresses.parse_postgres_url(url, name="prefect")
    login = quote(address.user, safe="")
    if password := address.password.get_secret_value():
        login += ":" + quote(password, safe="")
    query = {}
    place = f"{f'[{address.host}]' if ':' in address.host else address.host}:{address.port}"
    if address.host.startswith("/"):
        query = {"host": address.host, "port": str(address.port)}
        place = ""
    if "sslmode" in address.options:
        query["ssl"] = address.options["sslmode"]  # asyncpg's spelling
    database = quote(address.database, safe="")
    spelled = f"postgresql+asyncpg://{login}@{place}/{database}"
    told = {
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": spelled + (f"?{urlencode(query)}" * bool(query)),
        f"{_SQLALCHEMY}_CONNECT_ARGS_APPLICATION_NAME": "flowforge-server",
    }
    # asyncpg reads these four from the environment as libpq does; it knows no other option.
    return told | {
        variable: address.options[option]
        for option, variable in _TLS_FILES.items()
        if option in address.options
    }


def _redis(url: str) -> dict[str, str]:
    """Messages, order, leases and the docket, so that several servers can share the work."""
    parts = urlsplit(url)
    return {
        "PREFECT_SERVER_EVENTS_MESSAGING_BROKER": "prefect_redis.messaging",
        "PREFECT_SERVER_EVENTS_MESSAGING_CACHE": "prefect_redis.messaging",
        "PREFECT_SERVER_EVENTS_CAUSAL_ORDERING": "prefect_redis.ordering",
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect_redis.lease_storage",
        "PREFECT_SERVER_WORKER_CHANNEL_CLEANUP_QUEUE_STORAGE": "prefect_redis.cleanup_queue",
        "PREFECT_REDIS_MESSAGING_URL": url,
        "PREFECT_SERVER_DOCKET_URL": urlunsplit(parts._replace(path="/1")),
    }
