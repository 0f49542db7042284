"""From a name somebody typed to the plain value an engine works with."""

from __future__ import annotations

from typing import TypeVar

import httpx
from prefect.blocks.core import Block
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import BlockDocument
from prefect.exceptions import PrefectHTTPStatusError
from pydantic import SecretStr

from blocks.claude import ClaudeAccount
from blocks.egress import EgressSecret
from blocks.git import GitRepository
from blocks.postgres import PostgresServer
from blocks.recovery import BackupKey
from blocks.redis import RedisServer
from blocks.sandboxes import SandboxProfile
from blocks.storage import BackupStore
from flowforge.engines.agent.sources_access import Access
from flowforge.errors import Refused, Unavailable
from flowforge.rules import names
from flowforge.rules.addresses import PostgresAddress, StoreAddress
from flowforge.rules.jobs import profiles
from flowforge.rules.jobs.accounts import Account
from flowforge.rules.jobs.egress_secrets import HostSecret
from flowforge.rules.jobs.profiles import Known
from flowforge.rules.redis_addresses import AnyRedis
from flowforge.settings import read_settings

B = TypeVar("B", bound=Block)
_IN_UI = "Create it in Prefect's UI: Blocks, then {word}, with the name {name}."


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
    return tuple(BackupKey.model_validate(document.data).key for document in _saved(BackupKey))


def find_account(name: str) -> Account:
    """The account of a name that pays for the model; `default` may be the environment's key.

    Raises:
        Refused: There is none.
    """
    told = read_settings().account
    if told is not None and name == told.name:
        return told
    return _load(ClaudeAccount, name, "Claude account", by=_IN_UI).account(name)


def find_git_access(name: str) -> Access:
    """What opens a private repository, by the name it was registered under.

    Raises:
        Refused: There is none.
    """
    names.check_system_name(name, kind="repo")
    return _load(GitRepository, name, "repo").access(name)


def find_egress_secret(name: str) -> HostSecret:
    """What a host is told with requests of a job, by the name it was saved under.

    Raises:
        Refused: There is none.
    """
    names.check_system_name(name, kind="secret")
    return _load(EgressSecret, name, "Egress secret", by=_IN_UI).secret(name)


def saved_names(kind: type[Block]) -> list[str]:
    """The names under which blocks of a kind are saved, in order."""
    return sorted(document.name for document in _saved(kind) if document.name)


def find_profiles() -> Known:
    """Every sandbox profile there is.

    Raises:
        Unavailable: Prefect's API did not say.
    """
    try:
        saved = _saved(SandboxProfile)
    except httpx.HTTPError as error:
        raise Unavailable(
            f"Prefect's API does not tell the sandbox profiles ({type(error).__name__}).",
            hint="`flowforge status` tells how the server is; it is tried again by itself.",
        ) from error
    return profiles.read({str(document.name): document.data for document in saved})


def _saved(kind: type[Block]) -> list[BlockDocument]:
    with get_client(sync_client=True) as client:
        try:
            return client.read_block_documents_by_type(kind.get_block_type_slug())
        except PrefectHTTPStatusError as error:
            if error.response.status_code != 404:
                raise
            return []  # none was ever registered here


def _load(kind: type[B], name: str, word: str, by: str = "") -> B:
    try:
        # In a flow that is asynchronous it would give a coroutine, which its types do not tell.
        loaded = kind.load(name, _sync=True)  # type: ignore[call-arg]
    except ValueError as error:
        known = ", ".join(saved_names(kind)) or "none"
        raise Refused(
            f"No {word} is registered as {name!r}; registered are: {known}.",
            hint=by.format(word=word, name=name)
            or f"Register it with `flowforge {word} add {name}`.",
        ) from error
    assert isinstance(loaded, kind)
    return loaded
