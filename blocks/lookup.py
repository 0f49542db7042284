"""From a name somebody typed to the plain value an engine works with."""

from __future__ import annotations

from typing import TypeVar

from prefect.blocks.core import Block
from prefect.client.orchestration import get_client
from prefect.exceptions import PrefectHTTPStatusError
from pydantic import SecretStr

from blocks.postgres import PostgresServer
from blocks.recovery import BackupKey
from blocks.redis import RedisServer
from blocks.storage import BackupStore
from flowforge.errors import Refused
from flowforge.rules import names
from flowforge.rules.addresses import PostgresAddress, StoreAddress
from flowforge.rules.redis_addresses import AnyRedis

B = TypeVar("B", bound=Block)


def find_server(name: str) -> PostgresAddress:
    """The registered PostgreSQL server of a name.

    Raises:
        Refused: There is none, or the name is not one.
    """
    names.check_system_name(name)
    return _load(PostgresServer, name, "database").address(name)


def find_redis(name: str) -> AnyRedis:
    """The registered Redis of a name.

    Raises:
        Refused: There is none, or the name is not one.
    """
    names.check_system_name(name, kind="Redis")
    return _load(RedisServer, name, "redis").address(name)


def find_store(name: str) -> StoreAddress:
    """The registered store of a name.

    Raises:
        Refused: There is none, or the name is not one.
    """
    names.check_system_name(name, kind="store")
    return _load(BackupStore, name, "store").address(name)


def find_store_to_read(name: str) -> StoreAddress:
    """The registered store of a name, with every registered key that opens sealed copies.

    For restores, drills and whatever else looks inside a copy. Who writes copies asks
    `find_store`, and so cannot open what was written before.

    Raises:
        Refused: There is none, or the name is not one.
    """
    return find_store(name).model_copy(update={"keys": find_keys()})


def find_keys() -> tuple[SecretStr, ...]:
    """Every registered key that opens sealed copies."""
    with get_client(sync_client=True) as client:
        try:
            found = client.read_block_documents_by_type(BackupKey.get_block_type_slug())
        except PrefectHTTPStatusError as error:
            if error.response.status_code != 404:
                raise
            return ()  # none was ever registered here
    return tuple(BackupKey.model_validate(document.data).key for document in found)


def saved_names(kind: type[Block]) -> list[str]:
    """The names under which blocks of a kind are saved, in order."""
    slug = kind.get_block_type_slug()
    with get_client(sync_client=True) as client:
        try:
            documents = client.read_block_documents_by_type(slug)
        except PrefectHTTPStatusError as error:
            if error.response.status_code != 404:
                raise
            return []  # none was ever registered here
    return sorted(document.name for document in documents if document.name)


def _load(kind: type[B], name: str, word: str) -> B:
    try:
        loaded = kind.load(name)
    except ValueError as error:
        known = ", ".join(saved_names(kind)) or "none"
        raise Refused(
            f"No {word} is registered as {name!r}; registered are: {known}.",
            hint=f"Register it with `flowforge {word} add {name}`.",
        ) from error
    assert isinstance(loaded, kind)  # the call is synchronous here
    return loaded
