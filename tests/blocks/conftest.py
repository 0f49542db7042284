"""These tests talk to the session's Prefect server."""

from tests.prefect_server import prefect_url

__all__ = ["prefect_url"]
