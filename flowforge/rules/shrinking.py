"""A copy that holds far less than the one before it: a database emptied, or made anew by mistake.

The copy is good, it is what the database held. But the copies before it may be all that is left of
the data, so none of them goes until somebody has said that the fall is right.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Sequence

from flowforge.rules.backups import Copy

_ROWS_LEFT = 0.1
_TABLES_LEFT = 0.5
_FEWEST_ROWS_LOST = 10


def fell(previous: Copy, new: Copy) -> str | None:
    """Say how much less a copy holds than the one before; `None` when that is nothing unusual."""
    lost = previous.rows - new.rows
    if lost >= _FEWEST_ROWS_LOST and new.rows < previous.rows * _ROWS_LEFT:
        return f"rows fell from {previous.rows:,} to {new.rows:,} since {previous.name}"
    if new.tables < previous.tables * _TABLES_LEFT:
        return f"tables fell from {previous.tables} to {new.tables} since {previous.name}"
    return None


def with_falls(copies: Sequence[Copy], *, accepted: Collection[str] = ()) -> list[Copy]:
    """The same copies; each that fell says so.

    Args:
        copies: Copies of one database in one store, newest first; failed ones are passed over.
        accepted: Names of copies about which somebody said that their fall is right.
    """
    usable = [copy for copy in copies if not copy.failed]
    falls = {
        new.name: fell(previous, new)
        for new, previous in itertools.pairwise(usable)
        if new.name not in accepted
    }
    return [
        copy.model_copy(update={"fall": falls[copy.name]}) if falls.get(copy.name) else copy
        for copy in copies
    ]
