"""The named steps of a backup and a restore; a test may have a process die at each of them."""

from __future__ import annotations

from flowforge.engines.steps import reached

__all__ = ["BACKUP", "FORGET", "MIRROR", "RESTORE", "RESTORE_CLONE", "RESTORE_TABLES", "reached"]

BACKUP = (
    "lock",
    "table-locks",
    "snapshot",
    "upload-open",
    "first-chunk",
    "children-exit",
    "complete",
    "head",
    "manifest",
    "read-back",
    "proof",
)
MIRROR = ("mirror-data", "mirror-beside", "mirror-manifest")
FORGET = ("decide", "manifest-delete", "data-delete")
RESTORE = (
    "side-create",
    "pre",
    "members",
    "post",
    "load",
    "compare",
    "settings",
    "close-live",
    "swap",
)
RESTORE_CLONE = ("side-create", "load", "compare", "mask", "settings", "swap")
RESTORE_TABLES = ("side-create", "pre", "members", "post", "move", "tables")
