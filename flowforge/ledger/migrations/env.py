"""How Alembic runs here: in process only, on a connection `flowforge.ledger.upgrades` hands in."""

from __future__ import annotations

from alembic import context

from flowforge.ledger.tables import SCHEMA, metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table_schema=SCHEMA,
)
with context.begin_transaction():
    context.run_migrations()
