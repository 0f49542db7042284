"""Copies of PostgreSQL databases: taken, read back, proven by restoring, restored, forgotten."""
