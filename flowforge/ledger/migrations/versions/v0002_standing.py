"""Drills, holds and the id of a copy's database; notices of more than one kind."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from flowforge.errors import Refused

revision = "0002"
down_revision = "0001"

_SCHEMA = "flowforge"


def upgrade() -> None:
    """Change the tables; every row stays."""
    op.add_column("copies", sa.Column("database_oid", sa.BigInteger), schema=_SCHEMA)
    op.add_column(
        "copies",
        sa.Column("held", sa.Boolean, nullable=False, server_default=sa.false()),
        schema=_SCHEMA,
    )
    op.alter_column("copies", "held", server_default=None, schema=_SCHEMA)
    op.add_column("copies", sa.Column("fall", sa.Text), schema=_SCHEMA)
    for name in ("server", "database"):
        op.add_column("operations", sa.Column(name, sa.Text), schema=_SCHEMA)
    op.create_table(
        "drills",
        sa.Column("store", sa.Text, primary_key=True),
        sa.Column("server", sa.Text, primary_key=True),
        sa.Column("database", sa.Text, primary_key=True),
        sa.Column("drilled_at", sa.DateTime(timezone=True), primary_key=True),
        sa.Column("drill", sa.JSON, nullable=False),
        schema=_SCHEMA,
    )
    _widen_notices()


def _widen_notices() -> None:
    op.rename_table("stale_notices", "notices", schema=_SCHEMA)
    op.alter_column("notices", "copy_name", new_column_name="about", schema=_SCHEMA)
    op.add_column(
        "notices",
        sa.Column("event", sa.Text, nullable=False, server_default="flowforge.backup.stale"),
        schema=_SCHEMA,
    )
    op.alter_column("notices", "event", server_default=None, schema=_SCHEMA)
    op.drop_constraint("stale_notices_pkey", "notices", schema=_SCHEMA)
    op.create_primary_key(
        "notices_pkey", "notices", ["event", "server", "database", "about"], schema=_SCHEMA
    )


def downgrade() -> None:
    """Refuse: what was told and drilled is never dropped by a tool."""
    raise Refused(
        "The ledger's tables only go forward.",
        hint="Restore a copy of the ledger's database instead: `flowforge restore plan platform`.",
    )
