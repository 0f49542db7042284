"""Is this the database it says it is? A renamed one would begin a new row of copies unnoticed.

PostgreSQL gives every database of a server a number that a change of name leaves as it is. So one
whose number is known under another name was renamed, or is not the one that is meant.
"""

from __future__ import annotations

from collections.abc import Iterable

from flowforge.errors import Refused
from flowforge.rules.backups import Copy


def check_name(
    database: str,
    oid: int,
    system_identifier: str,
    newest: Iterable[Copy],
    *,
    renamed_from: str | None = None,
) -> None:
    """Make sure that a database's copies belong under its name.

    Args:
        database: Its name now.
        oid: Its number.
        system_identifier: Of its server.
        newest: The newest copy of every database of the server, as far as there is one.
        renamed_from: The name somebody confirmed that it had before.

    Raises:
        Refused: Its number is known under another name, and nobody confirmed the change.
    """
    known = [c for c in newest if (c.system_identifier, c.database_oid) == (system_identifier, oid)]
    names = sorted({copy.database for copy in known})
    if not names or database in names or renamed_from in names:
        return
    before = names[0]
    raise Refused(
        f"The database {database!r} was called {before!r} when it was last copied.",
        hint=f"If it was renamed, run this backup once with renamed_from={before!r}; the copies "
        f"made under that name stay there. If not, look which database {database!r} is.",
        known_as=before,
    )
