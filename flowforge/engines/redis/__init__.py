"""Copies of Redis: taken as a replica would, checked, loaded to prove them, put back on request."""
