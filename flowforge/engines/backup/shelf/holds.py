"""Hold a copy, release it, accept one that holds far less than the one before.

A hold is a small object beside the copy, so it is the same for everybody who uses the store and
outlives the ledger. It beats every retention rule, the next run of any version included.
"""

from __future__ import annotations

from datetime import UTC, datetime

from flowforge.engines.backup.shelf import catalogue
from flowforge.engines.backup.stores.store import Store
from flowforge.errors import Refused
from flowforge.rules import names
from flowforge.rules.holds import Word, check_reason


def hold(store: Store, server: str, database: str, name: str, *, reason: str, by: str) -> Word:
    """Say that a copy must stay until it is released.

    Raises:
        Refused: There is no such copy, it is held already, or no reason was given.
    """
    catalogue.read_text(store, server, database, name)
    word = _word(name, reason, by)
    store.put_new(names.hold_key(server, database, name), word.to_json())
    return word


def release(store: Store, server: str, database: str, name: str) -> None:
    """Let the retention rule decide about a copy again.

    Raises:
        Refused: It is not held.
    """
    key = names.hold_key(server, database, names.check_copy_name(name))
    if store.head(key) is None:
        raise Refused(
            f"The copy {name} of {database!r} on {server} is not held.",
            hint=f"`flowforge backup list {server}` shows which are.",
        )
    store.delete(key)


def accept(store: Store, server: str, database: str, name: str, *, reason: str, by: str) -> Word:
    """Say that a copy rightly holds far less than the one before, so that older ones may go.

    Raises:
        Refused: There is no such copy, it is accepted already, or no reason was given.
    """
    catalogue.read_text(store, server, database, name)
    word = _word(name, reason, by)
    store.put_new(names.accepted_key(server, database, name), word.to_json())
    return word


def list_holds(store: Store, server: str, database: str) -> list[Word]:
    """Every hold on a copy of one database, oldest copy first."""
    place = f"{names.prefix(server, database)}holds/"
    keys = [stored.key for stored in store.listing(place)]
    return [Word.model_validate_json(text) for text in catalogue.read_many(store, keys)]


def _word(name: str, reason: str, by: str) -> Word:
    return Word(
        copy_name=name, reason=check_reason(reason), by=check_reason(by), at=datetime.now(UTC)
    )
