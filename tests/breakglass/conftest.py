"""Break-glass is tried on real servers, from a root file system that has nothing of FlowForge."""

from tests.engines.conftest import database, server, store

__all__ = ["database", "server", "store"]
