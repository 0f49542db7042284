"""FlowForge's own tables: a catalogue of copies and proofs, records of operations and of jobs.

The store decides which copies exist; the catalogue only makes them quick to ask about and is made
again by `flowforge ledger rebuild`. Operations and jobs have no other home than this.
"""

from flowforge.ledger.connection import connect
from flowforge.ledger.upgrades import migrate

__all__ = ["connect", "migrate"]
