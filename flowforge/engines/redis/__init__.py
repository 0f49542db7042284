"""Copies of Redis: taken as a replica would, checked, loaded to prove them, put back on request."""

BACKUP_STEPS = (
    "upload-open",
    "first-chunk",
    "children-exit",
    "complete",
    "head",
    "manifest",
    "read-back",
    "proof",
)
RESTORE_STEPS = ("redis-kept", "redis-emptied", "redis-first-keys", "redis-filled")
"""The steps at which a killed run must be harmless, in their order."""
