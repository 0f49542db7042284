"""Parts that the journal's statements have in common.

A statement is a chain of `WITH` parts. The first is the guard: it holds the job's row, and finds it
only while the fence is still the attempt's own. What follows takes its rows from the guard, so
without it nothing happens.
"""

from __future__ import annotations

CHANNEL = "flowforge_jobs"
"""Where it is told, by its id, that something about a job changed."""

GUARD = """guard AS (
  SELECT id, tenant, state FROM flowforge.jobs WHERE id = :job AND fence = :fence
     FOR NO KEY UPDATE
)"""

TELL = f"pg_notify('{CHANNEL}', {{job}})"

TO_WORKER = "worker of "
CALL_WORKER = f"pg_notify('{CHANNEL}', '{TO_WORKER}' || {{job}})"
"""Tells whoever works on a job that it was cancelled or taken away. Its other news it makes
itself, and would only hear its own voice."""

LOST = """lost AS (
  UPDATE flowforge.usage u SET outcome = 'unknown', unknown_usd = u.reserved_usd
    FROM {ended} e WHERE u.job = e.id AND u.outcome = 'reserved' RETURNING u.day, u.reserved_usd
), due AS (
  SELECT day, sum(reserved_usd) AS reserved_usd, 0 AS usd, sum(reserved_usd) AS unknown_usd
    FROM lost GROUP BY day
)"""
"""Money an attempt that is over had set aside was perhaps billed: it becomes `unknown`."""

SPEND = """locked AS (
  SELECT s.scope, s.day, d.reserved_usd, d.usd, d.unknown_usd
    FROM flowforge.spending s JOIN due d ON s.day = d.day
    JOIN guard g ON s.scope IN ('everyone', 'tenant:' || g.tenant)
   ORDER BY s.scope, s.day FOR NO KEY UPDATE OF s
), spent AS (
  UPDATE flowforge.spending s
     SET spent_usd = s.spent_usd + l.usd, reserved_usd = s.reserved_usd - l.reserved_usd,
         unknown_usd = s.unknown_usd + l.unknown_usd
    FROM locked l WHERE s.scope = l.scope AND s.day = l.day
)"""
"""Moves what is `due` from reserved to spent. Everybody locks the two rows in the same order, so
nobody waits in a circle."""

LOCK = "hashtextextended({job} || '/' || {fence}, 0)"
"""The number of the advisory lock of an attempt."""

GONE = f"""(j.lease_until < clock_timestamp()
   OR (pg_postmaster_start_time() < clock_timestamp() - make_interval(secs => :grace)
       AND NOT EXISTS (
         SELECT FROM pg_locks
          WHERE locktype = 'advisory' AND objsubid = 1 AND granted
            AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
            AND ((classid::bigint << 32) | objid::bigint)
                = {LOCK.format(job="j.id", fence="j.fence")})))"""
"""Whether the worker of job `j` is gone: its lease ran out, or nobody holds its lock. A PostgreSQL
that started less than `:grace` seconds ago is not asked for locks, which it cannot have yet."""

TOKENS = (
    "input_tokens",
    "write_5m_tokens",
    "write_1h_tokens",
    "read_tokens",
    "output_tokens",
    "thinking_tokens",
)
