"""Break-glass is tried on real servers, from a root file system that has nothing of FlowForge."""

from tests.engines.conftest import age, buckets, database, server, store

__all__ = ["age", "buckets", "database", "server", "store"]
