"""What FlowForge's own API answers, read so that a newer server may say more than is known here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, JsonValue

from flowforge.rules.backups import Copy, Proof
from flowforge.rules.standing import DatabaseStanding

V = TypeVar("V", bound=BaseModel)


class CopyWithProofs(NamedTuple):
    """One copy and every examination of it."""

    copy: Copy
    proofs: list[Proof]


class Readiness(BaseModel):
    """Whether the server takes writes."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    ready: bool
    reason: str = ""
    """Why it does not."""


class PoolStatus(BaseModel):
    """One work pool, and who takes runs from it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str
    type: str
    is_paused: bool = False
    workers_online: int
    """Workers whose heartbeat is recent."""


class Status(BaseModel):
    """How the platform is."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    status: str
    version: str
    prefect: str
    ready: bool = True
    """Whether the server takes writes."""
    databases: list[DatabaseStanding] = []


def read_value(kind: type[V], body: JsonValue) -> V:
    """Read one value, without the fields this client does not know."""
    return kind.model_validate(body, extra="ignore")


def read_list(kind: type[V], body: Mapping[str, JsonValue], key: str) -> list[V]:
    """Read the list under a key."""
    items = body.get(key)
    return [read_value(kind, item) for item in items] if isinstance(items, list) else []
