"""The saved documents: read, written only where they differ, removed.

Servers, caches, stores, keys, pagers, sandbox profiles and accesses to repositories have documents.
A document is named as people type it; what it holds beside an address is a secret and never
printed.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from prefect.blocks.core import Block
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import BlockDocument
from prefect.exceptions import PrefectHTTPStatusError
from pydantic import JsonValue, ValidationError

from blocks import (
    BackupKey,
    BackupStore,
    ClaudeAccount,
    EgressSecret,
    GitRepository,
    Pager,
    PostgresServer,
    RedisServer,
    SandboxProfile,
)
from flowforge.automations import sync_automations
from flowforge.errors import FlowForgeError, Refused
from flowforge.rules.addresses import parse_postgres_url
from flowforge.rules.jobs import profiles
from flowforge.rules.names import check_system_name

KINDS: Mapping[str, type[Block]] = {
    "server": PostgresServer,
    "cache": RedisServer,
    "store": BackupStore,
    "key": BackupKey,
    "pager": Pager,
    "profile": SandboxProfile,
    "repo": GitRepository,
}
_SAVED_IN_UI: tuple[type[Block], ...] = (ClaudeAccount, EgressSecret)
ADD_COMMANDS: Mapping[str, str] = {
    "server": "database",
    "cache": "redis",
    "store": "store",
    "key": "key",
    "pager": "notify",
    "profile": "sandbox",
    "repo": "repo",
}
_URL_FORMS = {
    "server": "postgresql://USER:PASSWORD@HOST:PORT/DATABASE",
    "cache": "redis://USER:PASSWORD@HOST:PORT",
}
_PLURALS = {f"{kind}s": kind for kind in KINDS}


@dataclass(frozen=True)
class Saved:
    """One document as `apply` left it."""

    kind: str
    name: str
    action: str
    """`created`, `updated` or `unchanged`."""
    fields: tuple[str, ...] = ()
    """What was updated, by name only."""


def read_request(request: object) -> dict[str, dict[str, Block]]:
    """Read what `apply` was given into blocks, all of it before anything is written.

    Args:
        request: `{"servers": {NAME: URL}, "stores": {NAME: {"folder": ...}}, "pagers": {...}}`.

    Raises:
        Refused: Something in it is not usable. Values are never repeated in the message.
    """
    if not isinstance(request, dict) or not all(isinstance(v, dict) for v in request.values()):
        raise Refused(
            "The input is not an object of kinds and names.",
            hint='Give JSON such as {"stores": {"backups": {"folder": "/var/backups"}}}.',
        )
    unknown = sorted(set(request) - set(_PLURALS))
    if unknown:
        raise Refused(
            f"The input names unknown kinds: {', '.join(unknown)}.",
            hint=f"Known are {', '.join(_PLURALS)}.",
        )
    return {
        kind: {name: read_block(kind, name, value) for name, value in request[plural].items()}
        for plural, kind in _PLURALS.items()
        if plural in request
    }


def read_block(kind: str, name: str, value: object) -> Block:
    """Read one system's description.

    Raises:
        Refused: The name or the description is not usable.
    """
    check_system_name(name, kind=kind)
    if kind in ("server", "cache"):
        if not isinstance(value, str):
            raise Refused(
                f"The {kind} {name} was not given as a URL.",
                hint=f"Give it as {_URL_FORMS[kind]}.",
            )
        if kind == "cache":
            return RedisServer.of(value, name)
        return PostgresServer.of(parse_postgres_url(value, name=name))
    unknown = sorted(set(value) - set(_fields_of(KINDS[kind]))) if isinstance(value, dict) else []
    if unknown:  # Prefect's blocks would take them without a word
        raise Refused(
            f"The {kind} {name} has unknown fields: {', '.join(unknown)}.",
            hint=f"Known are {', '.join(_fields_of(KINDS[kind]))}.",
        )
    try:
        return KINDS[kind].model_validate(value)
    except ValidationError as error:
        raise _unusable(kind, name, error) from None


def _unusable(kind: str, name: str, error: ValidationError) -> Refused:
    problems = [
        ".".join(str(part) for part in one["loc"])
        + (": " if one["loc"] else "")
        + one["msg"].removeprefix("Value error, ")
        for one in error.errors(include_input=False, include_context=False, include_url=False)
    ]
    return Refused(
        f"The {kind} {name} is not usable: {'; '.join(problems)}.",
        hint=f"`flowforge {ADD_COMMANDS[kind]} add --help` lists what a {kind} needs.",
    )


def apply(client: SyncPrefectClient, wanted: Mapping[str, Mapping[str, Block]]) -> list[Saved]:
    """Register the block types and save what differs.

    Documents that are not mentioned stay. When pagers change, the automations that call them do.
    """
    for kind in (*KINDS.values(), *_SAVED_IN_UI):
        kind.register_type_and_schema()
    saved = [
        _save(kind, name, block, found.get(name))
        for kind, named in wanted.items()
        for found in [_read_documents(client, kind)]
        for name, block in named.items()
    ]
    if any(one.kind == "pager" and one.action != "unchanged" for one in saved):
        sync_automations(client)
    return saved


def _save(kind: str, name: str, block: Block, found: BlockDocument | None) -> Saved:
    differing = _differing_fields(block, found) if found else ()
    if found and not differing and found.block_schema_id == type(block)._block_schema_id:
        return Saved(kind, name, "unchanged")
    block.save(name, overwrite=True)
    return Saved(kind, name, "updated" if found else "created", differing)


def _differing_fields(block: Block, found: BlockDocument) -> tuple[str, ...]:
    try:
        stored = type(block).model_validate(found.data)
    except ValidationError:
        return tuple(_fields_of(type(block)))
    return tuple(
        field
        for field in _fields_of(type(block))
        if getattr(block, field) != getattr(stored, field)
    )


@functools.cache
def _fields_of(kind: type[Block]) -> list[str]:
    return list(kind.model_json_schema(by_alias=False)["properties"])


def read_blocks(client: SyncPrefectClient, kind: str) -> dict[str, Block | FlowForgeError]:
    """Every saved system of a kind; one that this FlowForge cannot read is its error."""
    found: dict[str, Block | FlowForgeError] = {}
    for name, document in sorted(_read_documents(client, kind).items()):
        try:
            found[name] = KINDS[kind].model_validate(document.data)
        except ValidationError as error:
            found[name] = _unusable(kind, name, error)
    return found


def read_one(client: SyncPrefectClient, kind: str, name: str) -> Block:
    """One saved system.

    Raises:
        Refused: There is none of that name, or it cannot be read.
    """
    found = read_blocks(client, kind)
    if kind == "profile":
        found.setdefault(profiles.DEFAULT.name, SandboxProfile.of(profiles.DEFAULT))
    if name not in found:
        raise _unknown(kind, name, list(found))
    block = found[name]
    if isinstance(block, FlowForgeError):
        raise block
    return block


def remove(client: SyncPrefectClient, kind: str, name: str) -> None:
    """Remove one saved system; what it pointed to is not touched.

    Raises:
        Refused: There is none of that name.
    """
    documents = _read_documents(client, kind)
    if name not in documents:
        raise _unknown(kind, name, list(documents))
    if kind == "pager":
        sync_automations(client, without=name)
    client.delete_block_document(documents[name].id)


def where(block: Block) -> str:
    """Where a system is, without a secret."""
    if isinstance(block, PostgresServer):
        return f"{block.address('-').where}/{block.database}"
    if isinstance(block, BackupStore):
        return block.where
    return cast(BackupKey | GitRepository | Pager | RedisServer | SandboxProfile, block).where


def fields_without_secrets(block: Block) -> dict[str, JsonValue]:
    """Everything a document holds, with secrets as asterisks."""
    dumped: dict[str, Any] = block.model_dump(mode="json", include=set(_fields_of(type(block))))
    return dumped


def _read_documents(client: SyncPrefectClient, kind: str) -> dict[str, BlockDocument]:
    try:
        documents = client.read_block_documents_by_type(KINDS[kind].get_block_type_slug())
    except PrefectHTTPStatusError as error:
        if error.response.status_code != 404:
            raise
        return {}  # the type was never registered here
    return {str(document.name): document for document in documents}


def _unknown(kind: str, name: str, known: list[str]) -> Refused:
    return Refused(
        f"There is no {kind} {name!r}.",
        hint=f"Known are: {', '.join(sorted(known)) or 'none'}. "
        f"Add one with `flowforge {ADD_COMMANDS[kind]} add NAME`.",
    )
