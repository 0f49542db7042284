"""Agent jobs: what was asked, every turn and tool, what it cost, and what is charged for tokens."""

from __future__ import annotations

from alembic import op

from flowforge.errors import Refused

revision = "0003"
down_revision = "0002"

_TOKENS = "".join(
    f"{kind}_tokens bigint NOT NULL DEFAULT 0, "
    for kind in ("input", "write_5m", "write_1h", "read", "output", "thinking")
)

# A row that is changed at every turn leaves room on its page, so that no index has to follow.
_JOBS = f"""
CREATE TABLE flowforge.jobs (
  id text PRIMARY KEY, tenant text NOT NULL, key text, spec text NOT NULL, spec_hash text NOT NULL,
  schema_version integer NOT NULL, model text NOT NULL, labels jsonb NOT NULL,
  priority integer NOT NULL, state text NOT NULL, reason text, not_before timestamptz,
  fence bigint NOT NULL DEFAULT 0, worker text, lease_until timestamptz,
  cancel_requested_at timestamptz, cancel_requested_by text, limit_usd numeric NOT NULL,
  wall_seconds double precision NOT NULL, deadline timestamptz,
  cost_usd numeric NOT NULL DEFAULT 0, reserved_usd numeric NOT NULL DEFAULT 0,
  unknown_usd numeric NOT NULL DEFAULT 0, {_TOKENS}
  rehearsal boolean NOT NULL DEFAULT false,
  turns integer NOT NULL DEFAULT 0, events bigint NOT NULL DEFAULT 0, result text, tree text,
  forked_from text, forked_turn integer, callback text NOT NULL,
  callback_tries integer NOT NULL DEFAULT 0, callback_at timestamptz,
  created_at timestamptz NOT NULL DEFAULT now(), started_at timestamptz, ended_at timestamptz,
  CONSTRAINT jobs_by_key UNIQUE (tenant, key)
) WITH (fillfactor = 50);
CREATE INDEX jobs_by_state ON flowforge.jobs (state, priority DESC, id);
CREATE INDEX jobs_by_tenant ON flowforge.jobs (tenant, id);
CREATE INDEX jobs_by_label ON flowforge.jobs USING gin (labels);
CREATE INDEX jobs_to_call_back ON flowforge.jobs (callback_at) WHERE callback = 'due'
"""

_JOB = "job text NOT NULL REFERENCES flowforge.jobs (id) ON DELETE CASCADE"

_TURNS = f"""
CREATE TABLE flowforge.attempts (
  {_JOB}, fence bigint NOT NULL, worker text NOT NULL, flow_run_id text, sandbox_id text,
  started_at timestamptz NOT NULL DEFAULT now(), ended_at timestamptz, end_reason text,
  events bigint NOT NULL DEFAULT 0, PRIMARY KEY (job, fence)
);
CREATE INDEX attempts_by_end ON flowforge.attempts (ended_at);
CREATE TABLE flowforge.turns (
  {_JOB}, n integer NOT NULL, fence bigint NOT NULL, request_hash text NOT NULL,
  model text NOT NULL, reply text, stop_reason text, request_id text, cache_miss text,
  started_at timestamptz NOT NULL DEFAULT now(), ended_at timestamptz, PRIMARY KEY (job, n)
) WITH (fillfactor = 80);
CREATE TABLE flowforge.tool_calls (
  {_JOB}, turn integer NOT NULL, tool_use_id text NOT NULL, position integer NOT NULL,
  fence bigint NOT NULL, name text NOT NULL, input text NOT NULL, result text,
  is_error boolean NOT NULL DEFAULT false, tree text, milliseconds bigint,
  started_at timestamptz NOT NULL DEFAULT now(), ended_at timestamptz,
  PRIMARY KEY (job, turn, tool_use_id)
) WITH (fillfactor = 80);
CREATE TABLE flowforge.events (
  {_JOB}, seq bigint NOT NULL, at timestamptz NOT NULL DEFAULT clock_timestamp(),
  kind text NOT NULL, data text NOT NULL, PRIMARY KEY (job, seq)
);
CREATE TABLE flowforge.approvals (
  {_JOB}, turn integer NOT NULL, tool_use_id text NOT NULL, command text NOT NULL,
  state text NOT NULL, asked_at timestamptz NOT NULL DEFAULT now(), until timestamptz NOT NULL,
  answered_by text, answered_at timestamptz, PRIMARY KEY (job, turn, tool_use_id)
)
"""

_ARTIFACTS = f"""
CREATE TABLE flowforge.blobs (sha256 text PRIMARY KEY, size_bytes bigint NOT NULL);
CREATE TABLE flowforge.blob_chunks (
  sha256 text NOT NULL REFERENCES flowforge.blobs (sha256) ON DELETE CASCADE,
  n integer NOT NULL, content bytea NOT NULL, PRIMARY KEY (sha256, n)
);
CREATE TABLE flowforge.artifacts (
  {_JOB}, name text NOT NULL, kind text NOT NULL,
  sha256 text NOT NULL REFERENCES flowforge.blobs (sha256),
  created_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (job, name)
);
CREATE INDEX artifacts_by_content ON flowforge.artifacts (sha256)
"""

_MONEY = f"""
CREATE TABLE flowforge.usage (
  {_JOB}, turn integer NOT NULL, call integer NOT NULL, fence bigint NOT NULL,
  outcome text NOT NULL, model text NOT NULL, price_from text, day date NOT NULL, {_TOKENS}
  usd numeric NOT NULL DEFAULT 0, reserved_usd numeric NOT NULL DEFAULT 0,
  unknown_usd numeric NOT NULL DEFAULT 0, at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (job, turn, call)
) WITH (fillfactor = 80);
CREATE TABLE flowforge.budgets (
  scope text PRIMARY KEY, usd_per_day numeric NOT NULL, set_by text NOT NULL,
  set_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE flowforge.spending (
  scope text NOT NULL, day date NOT NULL, spent_usd numeric NOT NULL DEFAULT 0,
  reserved_usd numeric NOT NULL DEFAULT 0, unknown_usd numeric NOT NULL DEFAULT 0,
  PRIMARY KEY (scope, day)
) WITH (fillfactor = 50);
CREATE TABLE flowforge.buckets (
  key text PRIMARY KEY, arrival double precision NOT NULL DEFAULT 0,
  per_minute double precision NOT NULL, burst double precision NOT NULL,
  factor double precision NOT NULL DEFAULT 1, changed_at double precision NOT NULL DEFAULT 0
) WITH (fillfactor = 50);
CREATE TABLE flowforge.breakers (
  credential text PRIMARY KEY, reason text NOT NULL,
  opened_at timestamptz NOT NULL DEFAULT now(), until timestamptz
);
CREATE TABLE flowforge.prices (
  model text NOT NULL, from_date date NOT NULL, above_tokens bigint NOT NULL,
  input_usd numeric NOT NULL, output_usd numeric NOT NULL, write_5m_factor numeric NOT NULL,
  write_1h_factor numeric NOT NULL, read_factor numeric NOT NULL, batch_factor numeric NOT NULL,
  source text NOT NULL, PRIMARY KEY (model, from_date, above_tokens)
)
"""

_VENDOR = "https://platform.claude.com/docs/en/models/haiku-5-5/overview"
_LISTS = "price lists of others; compare https://platform.claude.com/docs/en/about-claude/pricing"
_LONG = 100_000

# Model, prompts longer than, dollars per million tokens in and out, factor of a cache read, source.
_PRICES = (
    ("claude-fable-5-1", 0, "10", "50", "0.025", _VENDOR),
    ("claude-opus-5-5", 0, "4", "20", "0.05", _VENDOR),
    ("claude-sonnet-5-5", 0, "2", "10", "0.05", _VENDOR),
    ("claude-haiku-5-5", 0, "0.1", "0.5", "0.1", _VENDOR),
    ("claude-haiku-5-5", _LONG, "0.5", "2.5", "0.1", _VENDOR),
    ("claude-fable-5", 0, "10", "50", "0.1", _LISTS),
    ("claude-opus-5", 0, "5", "25", "0.1", _LISTS),
    ("claude-opus-4-8", 0, "5", "25", "0.1", _LISTS),
    ("claude-opus-4-7", 0, "5", "25", "0.1", _LISTS),
    ("claude-opus-4-6", 0, "5", "25", "0.1", _LISTS),
    ("claude-opus-4-5", 0, "5", "25", "0.1", _LISTS),
    ("claude-sonnet-5", 0, "2", "10", "0.1", _LISTS),
    ("claude-sonnet-4-6", 0, "3", "15", "0.1", _LISTS),
    ("claude-sonnet-4-5", 0, "3", "15", "0.1", _LISTS),
    ("claude-haiku-4-5", 0, "1", "5", "0.1", _LISTS),
)


def upgrade() -> None:
    """Make the tables, and enter the prices known on the day this was written."""
    for statements in (_JOBS, _TURNS, _ARTIFACTS, _MONEY):
        for statement in statements.split(";\n"):
            op.execute(statement)
    rows = ", ".join(
        f"('{model}', '2026-01-01', {above}, {paid_in}, {out}, 1.25, 2, {read}, 0.5, '{source}')"
        for model, above, paid_in, out, read, source in _PRICES
    )
    op.execute(f"INSERT INTO flowforge.prices VALUES {rows}")


def downgrade() -> None:
    """Refuse: what jobs did and cost is never dropped by a tool."""
    raise Refused(
        "The ledger's tables only go forward.",
        hint="Restore a copy of the ledger's database instead: `flowforge restore plan platform`.",
    )
