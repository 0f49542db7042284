"""Say of a copy that it must stay, that it may go again, or that its fall in size is right.

What is said is kept in the store beside the copy, so it holds for everybody and outlives the
ledger; who said it, and why, is in both.
"""

from __future__ import annotations

from typing import Literal

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed

from tasks import ledger, postgres, storage


@flow(timeout_seconds=600)
def say_of_copy(
    server: str,
    copy: str,
    word: Literal["hold", "release", "accept"],
    reason: str,
    by: str,
    database: str | None = None,
    store: str = "backups",
) -> State:
    """Hold a copy, release it, or accept one that holds far less than the one before.

    Args:
        server: Name of the registered server the copy was taken from.
        copy: Name of the copy.
        word: `hold` keeps it whatever the retention rule says, `release` takes that back, `accept`
            lets older copies go although this one holds far less than the one before.
        reason: Why, for the next person who looks.
        by: Who says so.
        database: Its database; empty means the one the server was registered with.
        store: Name of the registered store that keeps the copy.

    Raises:
        Refused: There is no such copy, or that was said already.
    """
    with ledger.recording("say-of-copy") as record:
        database = postgres.database_of(server, database)
        record.about(server, database)
        storage.say_of_copy(server, database, store, copy, word, reason, by)
        copies = storage.list_copies(server, database, store)
        ledger.note_copies(server, database, copies, {})
        record.done(f"{word} {copy}: {reason} ({by})", copy=copy, word=word)
    return Completed(message=record.evidence)
