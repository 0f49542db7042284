"""A session with a Redis, and what its refusals mean."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, cast

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from flowforge.errors import FlowForgeError, Refused, Unavailable
from flowforge.rules.redis_addresses import RedisAddress
from flowforge.rules.redis_copies import KeyCounts

CONNECT_SECONDS = 10.0
ANSWER_SECONDS = 30.0


class Wire(Protocol):
    """The connection below a session, for commands that are packed already."""

    def send_packed_command(self, command: Sequence[bytes]) -> None:
        """Send on."""

    def read_response(self) -> object:
        """The answer to the oldest command not answered yet; an error is raised."""


class Session(Protocol):
    """A way to talk to a Redis, one command at a time."""

    connection: Wire

    def execute_command(self, *words: object) -> Any:
        """Send one and return its answer."""


@contextlib.contextmanager
def connect(
    address: RedisAddress, *, database: int = 0, answer_seconds: float = ANSWER_SECONDS
) -> Iterator[Session]:
    """Enter a Redis for as long as the block lasts; what goes wrong inside is explained.

    Args:
        address: The server.
        database: The numbered database to be in.
        answer_seconds: How long one answer may take.

    Raises:
        Refused: It does not let us in, or does not allow a command.
        Unavailable: It does not answer, or is loading its data.
    """
    place: dict[str, Any] = {"host": address.host, "port": address.port}
    if address.is_socket:
        place = {"unix_socket_path": address.host}
    elif address.tls:
        _check_files(address)
        place |= {
            "ssl": True,
            "ssl_ca_certs": address.ssl_ca_certs,
            "ssl_certfile": address.ssl_certfile,
            "ssl_keyfile": address.ssl_keyfile,
        }
    with explained(address):
        session = redis.Redis(
            **place,
            db=database,
            username=address.user,
            password=address.password.get_secret_value() or None,
            protocol=2,
            single_connection_client=True,
            socket_connect_timeout=CONNECT_SECONDS,
            socket_timeout=answer_seconds,
            retry=Retry(NoBackoff(), 0),
        )
        with contextlib.closing(session):
            yield cast(Session, session)


def _check_files(address: RedisAddress) -> None:
    for file in (address.ssl_ca_certs, address.ssl_certfile, address.ssl_keyfile):
        if file is not None and not Path(file).is_file():
            raise Refused(
                f"{file} is not there, which the URL of {address.name} names.",
                hint="Put it where the operations workers find it, or save the URL again.",
            )


@contextlib.contextmanager
def explained(address: RedisAddress) -> Iterator[None]:
    """Turn what the driver raises into what a person should do."""
    try:
        yield
    except redis.RedisError as error:
        raise explain(error, address) from error


def explain(error: redis.RedisError, address: RedisAddress) -> FlowForgeError:
    """What an error of the driver means."""
    name, text = address.name, str(error)
    if isinstance(error, redis.exceptions.AuthenticationError):
        return refused_entry(name)
    if isinstance(error, redis.exceptions.NoPermissionError):
        return refused_right(name, address.user, text)
    if isinstance(error, redis.exceptions.BusyLoadingError):
        return Unavailable(f"{name} is loading its data.", hint="Wait until it has; then again.")
    if "CERTIFICATE_VERIFY_FAILED" in text or isinstance(error.__context__, ssl.SSLError):
        return Refused(
            f"The certificate of {name} is not trusted, or is not for {address.host}.",
            hint="Name the authority's file in the URL (?ssl_ca_certs=FILE) and the host that is "
            "in the certificate; it is never skipped.",
        )
    if isinstance(error, redis.exceptions.OutOfMemoryError):
        return Refused(f"The memory of {name} is full.", hint="Raise its maxmemory, then again.")
    if isinstance(error, redis.exceptions.ConnectionError | redis.exceptions.TimeoutError):
        return Unavailable(
            f"{name} does not answer at {address.where}.",
            hint="Check that it runs and is reached from the operations worker; "
            f"`flowforge redis test {name}` tries it.",
        )
    if text.startswith("MISCONF"):
        return Refused(
            f"{name} takes no writes: it could not save its own snapshot.",
            hint="Look at its log and its disk; CONFIG SET stop-writes-on-bgsave-error no lets it "
            "write again without saving.",
        )
    return Refused(
        f"{name} does not do what was asked: {text[:200]}",
        hint="A command that is renamed, disabled or unknown to this version is needed; the "
        "operations manual lists which.",
    )


def refused_entry(name: str) -> Refused:
    """The password or the user is wrong."""
    return Refused(
        f"{name} does not accept the user or the password.",
        hint=f"Save the right ones with `flowforge redis add {name}`.",
    )


def refused_right(name: str, user: str | None, text: str) -> Refused:
    """The user may not do something."""
    who = user or "default"
    return Refused(
        f"The user {who} of {name} lacks a right: {text[:200]}",
        hint=f"A backup needs ACL SETUSER {who} +info +ping +select +sync +psync +replconf; "
        "a restore also needs every right on every key (~* +@all).",
    )


def read_info(session: Session) -> dict[str, Any]:
    """Everything a Redis says of itself."""
    info: dict[str, Any] = session.execute_command("INFO")
    return info


def keyspace(info: Mapping[str, Any]) -> dict[int, KeyCounts]:
    """How much each database holds, by what `INFO` says."""
    return {
        int(name[2:]): KeyCounts(key_count=said["keys"], expires=said["expires"])
        for name, said in info.items()
        if name.startswith("db") and name[2:].isdigit() and isinstance(said, dict)
    }
