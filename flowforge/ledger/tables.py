"""The tables, in schema `flowforge`, shaped by the values of `flowforge.rules.backups`.

No foreign keys between copies and proofs: a run may record them in any order, and again.
"""

from __future__ import annotations

import sqlalchemy as sa

SCHEMA = "flowforge"
metadata = sa.MetaData(schema=SCHEMA)

_moment = sa.DateTime(timezone=True)

copies = sa.Table(
    "copies",
    metadata,
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
    sa.Column("database_oid", sa.BigInteger),
    sa.Column("engine", sa.Text, nullable=False),
    sa.Column("flow_run_id", sa.Text),
    sa.Column("level", sa.SmallInteger, nullable=False),
    sa.Column("proven_at", _moment),
    sa.Column("failed", sa.Boolean, nullable=False),
    sa.Column("held", sa.Boolean, nullable=False),
    sa.Column("fall", sa.Text),
    sa.Column("warnings", sa.JSON, nullable=False),
    sa.Index("copies_by_database", "server", "database", "snapshot_at"),
)

proofs = sa.Table(
    "proofs",
    metadata,
    sa.Column("store", sa.Text, primary_key=True),
    sa.Column("server", sa.Text, primary_key=True),
    sa.Column("database", sa.Text, primary_key=True),
    sa.Column("copy_name", sa.Text, primary_key=True),
    sa.Column("checked_at", _moment, primary_key=True),
    sa.Column("level", sa.SmallInteger, primary_key=True),
    sa.Column("verdict", sa.Text, nullable=False),
    # JSON and not JSONB: what a database says may hold an escaped NUL, which JSONB refuses.
    sa.Column("proof", sa.JSON, nullable=False),
)

operations = sa.Table(
    "operations",
    metadata,
    sa.Column("flow_run_id", sa.Text, primary_key=True),
    sa.Column("operation", sa.Text, nullable=False),
    sa.Column("flow_run_name", sa.Text, nullable=False),
    sa.Column("outcome", sa.Text, nullable=False),
    sa.Column("evidence", sa.Text, nullable=False),
    sa.Column("seconds", sa.Double, nullable=False),
    sa.Column("finished_at", _moment, nullable=False),
    sa.Column("server", sa.Text),
    sa.Column("database", sa.Text),
    sa.Column("facts", sa.JSON, nullable=False),
    sa.Index("operations_by_time", "finished_at"),
    sa.Index("operations_by_kind", "operation", "finished_at"),
)

drills = sa.Table(
    "drills",
    metadata,
    sa.Column("store", sa.Text, primary_key=True),
    sa.Column("server", sa.Text, primary_key=True),
    sa.Column("database", sa.Text, primary_key=True),
    sa.Column("drilled_at", _moment, primary_key=True),
    sa.Column("drill", sa.JSON, nullable=False),
)

notices = sa.Table(
    "notices",
    metadata,
    # Whoever inserts the row tells people; so they are told once, by one server of several.
    sa.Column("event", sa.Text, primary_key=True),
    sa.Column("server", sa.Text, primary_key=True),
    sa.Column("database", sa.Text, primary_key=True),
    sa.Column("about", sa.Text, primary_key=True),
    sa.Column("told_at", _moment, nullable=False, server_default=sa.func.now()),
)

heartbeats = sa.Table(
    "heartbeats",
    metadata,
    # Also made in Prefect's own database, when that is another one: see the server's prober.
    sa.Column("process", sa.Text, primary_key=True),
    sa.Column("beat_at", _moment, nullable=False),
)
