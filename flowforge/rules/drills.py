"""Which copy a drill should bring back to life."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from flowforge.errors import Refused
from flowforge.rules.backups import Copy, Level

_NEVER = datetime.min.replace(tzinfo=UTC)


def choose_copy(copies: Sequence[Copy]) -> Copy:
    """Choose the copy that most needs a proof.

    The newest copy goes first when it was never restored, since a real restore would use it; then
    any other that never was, newest first; then the one whose proof is oldest.

    Raises:
        Refused: There is no copy.
    """
    if not copies:
        raise Refused("There is no copy to drill with.", hint="Take one: `flowforge backup run`.")
    unproven = [c for c in copies if not c.failed and c.level < Level.COMPARED]
    if unproven:
        return max(unproven, key=lambda c: c.snapshot_at)
    usable = [c for c in copies if not c.failed] or list(copies)
    return min(usable, key=lambda c: (c.proven_at or _NEVER, c.snapshot_at))
