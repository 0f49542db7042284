from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr

from flowforge.errors import Refused
from flowforge.server.environment import auth_string, prefect_environment
from flowforge.settings import Settings

URL = "PREFECT_SERVER_DATABASE_CONNECTION_URL"


def settings(**changes: object) -> Settings:
    known = Settings(state=Path("/state"), api_port=8081)
    bare = {"database_url": None, "redis_url": None, "jwt_secret": None, "public_api_url": None}
    return known.model_copy(update=bare | changes)


def test_only_prefect_names_are_set_and_nobody_is_phoned() -> None:
    told = prefect_environment(settings(), {})
    assert all(name.startswith("PREFECT_") for name in told)
    assert told["PREFECT_SERVER_ANALYTICS_ENABLED"] == "false"
    assert told["PREFECT_HOME"] == "/state/prefect"
    assert told["PREFECT_SERVER_CORS_ALLOWED_ORIGINS"] == "http://127.0.0.1:8081"
    assert URL not in told


def test_leases_outlive_the_server_on_disk_or_in_redis() -> None:
    name = "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE"
    assert prefect_environment(settings(), {})[name].endswith(".filesystem")
    shared = settings(redis_url=SecretStr("redis://h:6379/0"))
    assert prefect_environment(shared, {})[name] == "prefect_redis.lease_storage"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("postgresql://u:p@h/d", "postgresql+asyncpg://u:p@h:5432/d"),
        ("postgres://u@h:1/d", "postgresql+asyncpg://u@h:1/d"),
        ("postgresql+asyncpg://u:p@h/d", "postgresql+asyncpg://u:p@h:5432/d"),
        ("postgresql://u:a%2Fb%40@[::1]/d%20e", "postgresql+asyncpg://u:a%2Fb%40@[::1]:5432/d%20e"),
        ("postgresql://u@h/d?sslmode=require", "postgresql+asyncpg://u@h:5432/d?ssl=require"),
        (
            "postgresql://u@/d?host=/run/pg&port=5433",
            "postgresql+asyncpg://u@/d?host=%2Frun%2Fpg&port=5433",
        ),
    ],
)
def test_the_database_is_spelled_for_asyncpg(given: str, expected: str) -> None:
    told = prefect_environment(settings(database_url=SecretStr(given)), {URL: "sqlite:///other"})
    assert told[URL] == expected


def test_certificates_go_where_asyncpg_reads_them() -> None:
    url = SecretStr("postgresql://u@h/d?sslmode=verify-full&sslrootcert=/ca.pem")
    assert prefect_environment(settings(database_url=url), {})["PGSSLROOTCERT"] == "/ca.pem"


def test_a_database_that_is_no_postgresql_is_refused() -> None:
    with pytest.raises(Refused):
        prefect_environment(settings(database_url=SecretStr("mysql://u@h/d")), {})


def test_what_an_operator_set_stays() -> None:
    told = prefect_environment(settings(), {"PREFECT_SERVER_EVENTS_RETENTION_PERIOD": "P9D"})
    assert "PREFECT_SERVER_EVENTS_RETENTION_PERIOD" not in told


def test_redis_carries_messages_leases_and_the_docket() -> None:
    told = prefect_environment(settings(redis_url=SecretStr("redis://r:6379/0")), {})
    assert told["PREFECT_REDIS_MESSAGING_URL"] == "redis://r:6379/0"
    assert told["PREFECT_SERVER_DOCKET_URL"] == "redis://r:6379/1"
    assert sum("prefect_redis" in value for value in told.values()) == 5


def test_the_secret_becomes_a_user_and_a_password() -> None:
    told = prefect_environment(settings(jwt_secret=SecretStr("s3cret")), {})
    assert told["PREFECT_SERVER_API_AUTH_STRING"] == auth_string("s3cret") == "flowforge:s3cret"
    assert auth_string("me:s3cret") == "me:s3cret"
