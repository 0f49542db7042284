"""Which copies a second store lacks: those it would keep, newest first."""

from __future__ import annotations

from collections.abc import Sequence

from flowforge.rules.backups import Copy, Level
from flowforge.rules.retention import Retention, choose_expired, expired


def choose_missing(
    first: Sequence[Copy], second: Sequence[Copy], policy: Retention
) -> tuple[Copy, ...]:
    """Choose the copies of one database to bring to a second store, newest first.

    A copy that the second store's own rule would let go at once is not brought there, so what was
    forgotten there does not come back. A copy that failed an examination is brought nowhere.

    Args:
        first: The copies in the store they come from.
        second: The copies in the second store.
        policy: How long copies are kept there.
    """
    if not first:
        return ()
    newest = max(first, key=lambda copy: copy.snapshot_at)
    there = {copy.name for copy in second}
    usable = [
        copy
        for copy in first
        if not copy.failed and copy.system_identifier == newest.system_identifier
    ]
    missing = {copy.name: copy for copy in usable if copy.name not in there}
    together = [*(copy for copy in second if _same_server(copy, newest)), *missing.values()]
    # What would block the rule today (an old, unread or shrunken newest copy) says nothing here.
    eased = [
        copy.model_copy(update={"fall": None, "level": _at_least_read(copy)}) for copy in together
    ]
    lax = policy.model_copy(update={"max_delete_fraction": 1.0})
    gone = set(expired(choose_expired(eased, lax, newest.snapshot_at)))
    chosen = [copy for name, copy in missing.items() if name not in gone]
    return tuple(sorted(chosen, key=lambda copy: copy.snapshot_at, reverse=True))


def _same_server(copy: Copy, other: Copy) -> bool:
    return copy.system_identifier == other.system_identifier


def _at_least_read(copy: Copy) -> Level:
    return max(copy.level, Level.READ_BACK)
