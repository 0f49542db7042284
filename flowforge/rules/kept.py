"""Databases set aside by a restore or its undoing: which they are, and when they may go."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from pydantic import Field

from flowforge.errors import Refused
from flowforge.rules.values import Value

KEPT_FOR = timedelta(days=7)
_MARK = re.compile(
    r"flowforge: (?:kept from before|set aside when undoing) restore (?P<id>\S+) since (?P<at>\S+)"
    r"(?: for \S+)?"
)
_ORDER = re.compile(
    r"flowforge: (?:kept from before|restored by) restore (?P<id>\S+)(?: since \S+)?"
    r" for (?P<order>\S+)"
)


class KeptDatabase(Value):
    """A database that was live until a restore took its name, or a restored one that was undone."""

    name: str
    oid: int
    restore_id: str
    since: datetime
    size_bytes: int = Field(description="what it takes on the server's disk")


def kept_mark(restore_id: str, since: datetime | None = None, order: str | None = None) -> str:
    """The comment on the database that was live before a restore; without a time its beginning.

    Args:
        restore_id: The restore.
        since: When it took the live database's place.
        order: What it was done for, when that is to be done once.
    """
    return _mark("kept from before", restore_id, since) + _for(order)


def done_mark(restore_id: str, order: str | None = None) -> str:
    """The comment on a restored database that took nobody's place."""
    return f"flowforge: restored by restore {restore_id}{_for(order)}"


def restore_done_for(comment: str | None, order: str) -> str | None:
    """The restore that a comment says was done for an order, or `None` for any other comment."""
    found = _ORDER.fullmatch(comment or "")
    return found["id"] if found and found["order"] == order else None


def undone_mark(restore_id: str, since: datetime | None = None) -> str:
    """The comment on a restored database that was set aside; without a time its beginning."""
    return _mark("set aside when undoing", restore_id, since)


def read_mark(comment: str | None) -> tuple[str, datetime] | None:
    """Whose restore set a database aside and when, or `None` for any other comment."""
    found = _MARK.fullmatch(comment or "")
    return (found["id"], datetime.fromisoformat(found["at"])) if found else None


def is_droppable(one: KeptDatabase, now: datetime, age: timedelta = KEPT_FOR) -> bool:
    """Whether a database has been kept long enough."""
    return now - one.since >= age


def choose_droppable(
    kept: Iterable[KeptDatabase], chosen: Iterable[tuple[str, int]], now: datetime, age: timedelta
) -> tuple[KeptDatabase, ...]:
    """Those of the databases kept that somebody chose, by name and number.

    Raises:
        Refused: One is not kept, is another one by now, or has not been kept long enough.
    """
    held = {(one.name, one.oid): one for one in kept}
    found = []
    for name, oid in chosen:
        one = held.get((name, oid))
        if one is None:
            raise Refused(
                f"No database {name!r} with the number {oid} is kept from before a restore.",
                hint="List the kept databases again and choose from that list.",
            )
        if not is_droppable(one, now, age):
            raise Refused(
                f"{name!r} has been kept since {one.since:%Y-%m-%d %H:%M} UTC only.",
                hint=f"It may go after {one.since + age:%Y-%m-%d %H:%M} UTC; until then the restore"
                " can be undone.",
            )
        found.append(one)
    return tuple(found)


def _for(order: str | None) -> str:
    return f" for {order}" if order else ""


def _mark(why: str, restore_id: str, since: datetime | None) -> str:
    text = f"flowforge: {why} restore {restore_id}"
    return text if since is None else f"{text} since {since.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
