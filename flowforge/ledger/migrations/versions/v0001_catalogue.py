"""Copies, proofs, operations, notices and heartbeats."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from flowforge.errors import Refused

revision = "0001"
down_revision = None

_SCHEMA = "flowforge"
_moment = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "copies",
        sa.Column("store", sa.Text, primary_key=True),
        sa.Column("server", sa.Text, primary_key=True),
        sa.Column("database", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("snapshot_at", _moment, nullable=False),
        sa.Column("finished_at", _moment, nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("raw_bytes", sa.BigInteger, nullable=False),
        sa.Column("tables", sa.Integer, nullable=False),
        sa.Column("rows", sa.BigInteger, nullable=False),
        sa.Column("system_identifier", sa.Text, nullable=False),
        sa.Column("engine", sa.Text, nullable=False),
        sa.Column("flow_run_id", sa.Text),
        sa.Column("level", sa.SmallInteger, nullable=False),
        sa.Column("proven_at", _moment),
        sa.Column("failed", sa.Boolean, nullable=False),
        sa.Column("warnings", sa.JSON, nullable=False),
        schema=_SCHEMA,
    )
    op.create_index(
        "copies_by_database", "copies", ["server", "database", "snapshot_at"], schema=_SCHEMA
    )
    op.create_table(
        "proofs",
        sa.Column("store", sa.Text, primary_key=True),
        sa.Column("server", sa.Text, primary_key=True),
        sa.Column("database", sa.Text, primary_key=True),
        sa.Column("copy_name", sa.Text, primary_key=True),
        sa.Column("checked_at", _moment, primary_key=True),
        sa.Column("level", sa.SmallInteger, primary_key=True),
        sa.Column("verdict", sa.Text, nullable=False),
        sa.Column("proof", sa.JSON, nullable=False),
        schema=_SCHEMA,
    )
    _create_records()


def _create_records() -> None:
    op.create_table(
        "operations",
        sa.Column("flow_run_id", sa.Text, primary_key=True),
        sa.Column("operation", sa.Text, nullable=False),
        sa.Column("flow_run_name", sa.Text, nullable=False),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.Column("evidence", sa.Text, nullable=False),
        sa.Column("seconds", sa.Double, nullable=False),
        sa.Column("finished_at", _moment, nullable=False),
        sa.Column("facts", sa.JSON, nullable=False),
        schema=_SCHEMA,
    )
    op.create_index("operations_by_time", "operations", ["finished_at"], schema=_SCHEMA)
    op.create_index(
        "operations_by_kind", "operations", ["operation", "finished_at"], schema=_SCHEMA
    )
    op.create_table(
        "stale_notices",
        sa.Column("server", sa.Text, primary_key=True),
        sa.Column("database", sa.Text, primary_key=True),
        sa.Column("copy_name", sa.Text, primary_key=True),
        sa.Column("told_at", _moment, nullable=False, server_default=sa.func.now()),
        schema=_SCHEMA,
    )
    # The server's prober may have been here first.
    op.create_table(
        "heartbeats",
        sa.Column("process", sa.Text, primary_key=True),
        sa.Column("beat_at", _moment, nullable=False),
        schema=_SCHEMA,
        if_not_exists=True,
    )


def downgrade() -> None:
    """Refuse: operations have no other home, so they are never dropped by a tool."""
    raise Refused(
        "The ledger's tables only go forward.",
        hint="Restore a copy of the ledger's database instead: `flowforge restore plan platform`.",
    )
