"""The tables of agent jobs. They are records: this is the only place they are written down.

A job's row carries its fence, and every write of an attempt is bound to it. Everything else hangs
on the job and goes with it. What a model or a tool said is text and not JSONB, which would reorder
it and refuse a NUL.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

from flowforge.ledger.tables import metadata

_moment = sa.DateTime(timezone=True)
_now = sa.func.now()
_zero = sa.text("0")


def _money(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.Numeric, nullable=False, server_default=_zero)


def _tokens() -> tuple[sa.Column[Any], ...]:
    kinds = ("input", "write_5m", "write_1h", "read", "output", "thinking")
    return tuple(
        sa.Column(f"{kind}_tokens", sa.BigInteger, nullable=False, server_default=_zero)
        for kind in kinds
    )


def _job() -> sa.Column[Any]:
    return sa.Column(
        "job", sa.Text, sa.ForeignKey("flowforge.jobs.id", ondelete="CASCADE"), primary_key=True
    )


jobs = sa.Table(
    "jobs",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("tenant", sa.Text, nullable=False),
    sa.Column("key", sa.Text),
    sa.Column("spec", sa.Text, nullable=False),
    sa.Column("spec_hash", sa.Text, nullable=False),
    sa.Column("schema_version", sa.Integer, nullable=False),
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("labels", JSONB, nullable=False),
    sa.Column("priority", sa.Integer, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("reason", sa.Text),
    sa.Column("not_before", _moment),
    sa.Column("fence", sa.BigInteger, nullable=False, server_default=_zero),
    sa.Column("worker", sa.Text),
    sa.Column("lease_until", _moment),
    sa.Column("cancel_requested_at", _moment),
    sa.Column("cancel_requested_by", sa.Text),
    sa.Column("limit_usd", sa.Numeric, nullable=False),
    sa.Column("wall_seconds", sa.Double, nullable=False),
    sa.Column("deadline", _moment),
    _money("cost_usd"),
    _money("reserved_usd"),
    _money("unknown_usd"),
    *_tokens(),
    sa.Column("rehearsal", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("turns", sa.Integer, nullable=False, server_default=_zero),
    sa.Column("events", sa.BigInteger, nullable=False, server_default=_zero),
    sa.Column("result", sa.Text),
    sa.Column("tree", sa.Text),
    sa.Column("forked_from", sa.Text),
    sa.Column("forked_turn", sa.Integer),
    sa.Column("callback", sa.Text, nullable=False),
    sa.Column("callback_tries", sa.Integer, nullable=False, server_default=_zero),
    sa.Column("callback_at", _moment),
    sa.Column("created_at", _moment, nullable=False, server_default=_now),
    sa.Column("started_at", _moment),
    sa.Column("ended_at", _moment),
    sa.UniqueConstraint("tenant", "key", name="jobs_by_key"),
    sa.Index("jobs_by_state", "state", sa.text("priority DESC"), "id"),
    sa.Index("jobs_by_tenant", "tenant", "id"),
    sa.Index("jobs_by_label", "labels", postgresql_using="gin"),
    sa.Index(
        "jobs_to_call_back", "callback_at", postgresql_where=sa.text("callback = 'due'::text")
    ),
)

attempts = sa.Table(
    "attempts",
    metadata,
    _job(),
    sa.Column("fence", sa.BigInteger, primary_key=True),
    sa.Column("worker", sa.Text, nullable=False),
    sa.Column("flow_run_id", sa.Text),
    sa.Column("sandbox_id", sa.Text),
    sa.Column("started_at", _moment, nullable=False, server_default=_now),
    sa.Column("ended_at", _moment),
    sa.Column("end_reason", sa.Text),
    sa.Column("events", sa.BigInteger, nullable=False, server_default=_zero),
    sa.Index("attempts_by_end", "ended_at"),
)

turns = sa.Table(
    "turns",
    metadata,
    _job(),
    sa.Column("n", sa.Integer, primary_key=True),
    sa.Column("fence", sa.BigInteger, nullable=False),
    sa.Column("request_hash", sa.Text, nullable=False),
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("reply", sa.Text),
    sa.Column("stop_reason", sa.Text),
    sa.Column("request_id", sa.Text),
    sa.Column("cache_miss", sa.Text),
    sa.Column("started_at", _moment, nullable=False, server_default=_now),
    sa.Column("ended_at", _moment),
)

tool_calls = sa.Table(
    "tool_calls",
    metadata,
    _job(),
    sa.Column("turn", sa.Integer, primary_key=True),
    sa.Column("tool_use_id", sa.Text, primary_key=True),
    sa.Column("position", sa.Integer, nullable=False),
    sa.Column("fence", sa.BigInteger, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("input", sa.Text, nullable=False),
    sa.Column("result", sa.Text),
    sa.Column("is_error", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("tree", sa.Text),
    sa.Column("milliseconds", sa.BigInteger),
    sa.Column("started_at", _moment, nullable=False, server_default=_now),
    sa.Column("ended_at", _moment),
)

events = sa.Table(
    "events",
    metadata,
    _job(),
    sa.Column("seq", sa.BigInteger, primary_key=True),
    sa.Column("at", _moment, nullable=False, server_default=sa.func.clock_timestamp()),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("data", sa.Text, nullable=False),
)

usage = sa.Table(
    "usage",
    metadata,
    _job(),
    sa.Column("turn", sa.Integer, primary_key=True),
    sa.Column("call", sa.Integer, primary_key=True),
    sa.Column("fence", sa.BigInteger, nullable=False),
    sa.Column("outcome", sa.Text, nullable=False),
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("price_from", sa.Text),
    sa.Column("day", sa.Date, nullable=False),
    *_tokens(),
    _money("usd"),
    _money("reserved_usd"),
    _money("unknown_usd"),
    sa.Column("at", _moment, nullable=False, server_default=_now),
)

approvals = sa.Table(
    "approvals",
    metadata,
    _job(),
    sa.Column("turn", sa.Integer, primary_key=True),
    sa.Column("tool_use_id", sa.Text, primary_key=True),
    sa.Column("command", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("asked_at", _moment, nullable=False, server_default=_now),
    sa.Column("until", _moment, nullable=False),
    sa.Column("answered_by", sa.Text),
    sa.Column("answered_at", _moment),
)

blobs = sa.Table(
    "blobs",
    metadata,
    sa.Column("sha256", sa.Text, primary_key=True),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
)

blob_chunks = sa.Table(
    "blob_chunks",
    metadata,
    sa.Column(
        "sha256",
        sa.Text,
        sa.ForeignKey("flowforge.blobs.sha256", ondelete="CASCADE"),
        primary_key=True,
    ),
    sa.Column("n", sa.Integer, primary_key=True),
    sa.Column("content", sa.LargeBinary, nullable=False),
)

artifacts = sa.Table(
    "artifacts",
    metadata,
    _job(),
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("sha256", sa.Text, sa.ForeignKey("flowforge.blobs.sha256"), nullable=False),
    sa.Column("created_at", _moment, nullable=False, server_default=_now),
    sa.Index("artifacts_by_content", "sha256"),
)

budgets = sa.Table(
    "budgets",
    metadata,
    sa.Column("scope", sa.Text, primary_key=True),
    sa.Column("usd_per_day", sa.Numeric, nullable=False),
    sa.Column("set_by", sa.Text, nullable=False),
    sa.Column("set_at", _moment, nullable=False, server_default=_now),
)

spending = sa.Table(
    "spending",
    metadata,
    sa.Column("scope", sa.Text, primary_key=True),
    sa.Column("day", sa.Date, primary_key=True),
    _money("spent_usd"),
    _money("reserved_usd"),
    _money("unknown_usd"),
)

buckets = sa.Table(
    "buckets",
    metadata,
    # What flows in is `per_minute` x headroom x `factor`; see flowforge.rules.jobs.rates.
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("arrival", sa.Double, nullable=False, server_default=_zero),
    sa.Column("per_minute", sa.Double, nullable=False),
    sa.Column("burst", sa.Double, nullable=False),
    sa.Column("factor", sa.Double, nullable=False, server_default=sa.text("1")),
    sa.Column("changed_at", sa.Double, nullable=False, server_default=_zero),
)

breakers = sa.Table(
    "breakers",
    metadata,
    sa.Column("credential", sa.Text, primary_key=True),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("opened_at", _moment, nullable=False, server_default=_now),
    sa.Column("until", _moment),
)

prices = sa.Table(
    "prices",
    metadata,
    sa.Column("model", sa.Text, primary_key=True),
    sa.Column("from_date", sa.Date, primary_key=True),
    sa.Column("above_tokens", sa.BigInteger, primary_key=True),
    sa.Column("input_usd", sa.Numeric, nullable=False),
    sa.Column("output_usd", sa.Numeric, nullable=False),
    sa.Column("write_5m_factor", sa.Numeric, nullable=False),
    sa.Column("write_1h_factor", sa.Numeric, nullable=False),
    sa.Column("read_factor", sa.Numeric, nullable=False),
    sa.Column("batch_factor", sa.Numeric, nullable=False),
    sa.Column("source", sa.Text, nullable=False),
)
