"""What a job did: its turns, and the tools each of them called.

An intent is written before anything that costs or has effects, its outcome after. An intent without
an outcome is a call that may have been billed, or a tool that may have taken effect: nobody may
simply do it again.
"""

from __future__ import annotations

from decimal import Decimal

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from flowforge.errors import Damaged
from flowforge.ledger.journal.connection import Row, run
from flowforge.ledger.journal.fragments import GUARD
from flowforge.ledger.journal.leases import Lease, guarded
from flowforge.ledger.journal.money import SETTLE, settlement, unreserved
from flowforge.rules.jobs.prices import Usage
from flowforge.rules.jobs.records import Reply, ToolCall, Turn

_BEGIN = sa.text(f"""
WITH {GUARD}, begun AS (
  INSERT INTO flowforge.turns AS t (job, n, fence, request_hash, model)
  SELECT id, :n, :fence, :request_hash, :model FROM guard
  ON CONFLICT (job, n) DO UPDATE
    SET fence = excluded.fence, request_hash = excluded.request_hash, model = excluded.model
    WHERE t.reply IS NULL
  RETURNING n
) SELECT (SELECT count(*) FROM begun) AS written FROM guard
""")

_FINISH = sa.text(f"""
WITH {GUARD}, {SETTLE}, finished AS (
  UPDATE flowforge.turns t
     SET reply = :reply, stop_reason = :stop_reason, request_id = :request_id,
         cache_miss = :cache_miss, ended_at = now()
    FROM due WHERE t.job = :job AND t.n = :turn AND t.reply IS NULL RETURNING t.n
) SELECT (SELECT count(*) FROM finished) AS written,
         EXISTS (SELECT FROM flowforge.turns
                  WHERE job = :job AND n = :turn AND fence = :fence AND reply = :reply) AS there
    FROM guard
""")

_BEGIN_TOOL = sa.text(f"""
WITH {GUARD}, begun AS (
  INSERT INTO flowforge.tool_calls AS t (job, turn, tool_use_id, position, fence, name, input)
  SELECT id, :turn, :tool_use_id, :position, :fence, :name, :input FROM guard
  ON CONFLICT (job, turn, tool_use_id) DO UPDATE SET fence = excluded.fence WHERE t.result IS NULL
  RETURNING turn
) SELECT (SELECT count(*) FROM begun) AS written FROM guard
""")

_FINISH_TOOL = sa.text(f"""
WITH {GUARD}, finished AS (
  UPDATE flowforge.tool_calls t
     SET result = :result, is_error = :is_error, tree = :tree, milliseconds = :milliseconds,
         fence = :fence, ended_at = now()
    FROM guard g
   WHERE t.job = g.id AND t.turn = :turn AND t.tool_use_id = :tool_use_id AND t.result IS NULL
  RETURNING t.turn
), kept AS (
  UPDATE flowforge.jobs j SET tree = :tree FROM guard g
   WHERE j.id = g.id AND CAST(:tree AS text) IS NOT NULL AND j.tree IS DISTINCT FROM :tree
) SELECT (SELECT count(*) FROM finished) AS written,
         EXISTS (SELECT FROM flowforge.tool_calls
                  WHERE job = :job AND turn = :turn AND tool_use_id = :tool_use_id
                    AND fence = :fence AND result = :result) AS there
    FROM guard
""")

_TURNS = sa.text("""
SELECT n, fence, request_hash, model, reply, stop_reason, request_id, cache_miss, started_at,
       ended_at, (SELECT coalesce(max(call), 0) FROM flowforge.usage u
                   WHERE u.job = t.job AND u.turn = t.n) AS calls,
       (SELECT coalesce(json_agg(to_json(c) ORDER BY c.position), '[]') FROM (
          SELECT turn, position, tool_use_id, name, input, fence, result IS NOT NULL AS done,
                 result, is_error, tree, milliseconds
            FROM flowforge.tool_calls WHERE job = t.job AND turn = t.n) c) AS tools
  FROM flowforge.turns t WHERE job = :job AND n > :after ORDER BY n
""")


async def read(engine: AsyncEngine, job: str, *, after: int = 0) -> list[Turn]:
    """The turns of a job in order, each with its tool calls.

    Args:
        engine: The ledger.
        job: Its id.
        after: Only the turns after this one.
    """
    return [_turn(row) for row in await run(engine, _TURNS, {"job": job, "after": after})]


async def begin(engine: AsyncEngine, lease: Lease, n: int, request_hash: str, model: str) -> None:
    """Write down that the model is about to be asked; again is fine while there is no reply.

    Args:
        engine: The ledger.
        lease: The attempt's.
        n: The turn; the first is 1.
        request_hash: Of all that is sent. A replay that would send something else diverged.
        model: Which one is asked.

    Raises:
        Fenced: The job is no longer this attempt's.
        Damaged: The turn has its reply already.
    """
    asked = {"n": n, "request_hash": request_hash, "model": model}
    row = await guarded(engine, lease, _BEGIN, asked)
    if not row["written"]:
        raise _answered(f"Turn {n} of {lease.job}")


async def finish(
    engine: AsyncEngine,
    lease: Lease,
    n: int,
    call: int,
    reply: Reply,
    *,
    usage: Usage,
    usd: Decimal,
    price_from: str | None = None,
    rehearsal: bool = False,
) -> None:
    """Write down the model's reply and settle its cost, in one transaction.

    Args:
        engine: The ledger.
        lease: The attempt's.
        n: The turn.
        call: Which of its calls brought the reply.
        reply: What the model said.
        usage: The tokens it was billed.
        usd: What they cost.
        price_from: The day from which the price holds.
        rehearsal: Whether no model said it.

    Raises:
        Fenced: The job is no longer this attempt's.
        Damaged: The turn has another reply, or no money was set aside for the call.
    """
    told = settlement(n, call, "paid", usage, usd, Decimal(0), price_from) | {
        "finished": n,
        "rehearsal": rehearsal,
        "reply": reply.text,
        "stop_reason": reply.stop_reason,
        "request_id": reply.request_id,
        "cache_miss": reply.cache_miss,
    }
    row = await guarded(engine, lease, _FINISH, told)
    if not row["written"] and not row["there"]:
        raise unreserved(lease, n, call)


async def begin_tool(
    engine: AsyncEngine,
    lease: Lease,
    turn: int,
    position: int,
    tool_use_id: str,
    *,
    name: str,
    input: str,
) -> None:
    """Write down that a tool is about to run; from now on it may have taken effect.

    Args:
        engine: The ledger.
        lease: The attempt's.
        turn: Whose reply calls it.
        position: Its place among the calls of that reply.
        tool_use_id: As the model named the call.
        name: The tool.
        input: What it is given, as JSON.

    Raises:
        Fenced: The job is no longer this attempt's.
        Damaged: The call has its result already.
    """
    asked = {
        "turn": turn,
        "position": position,
        "tool_use_id": tool_use_id,
        "name": name,
        "input": input,
    }
    row = await guarded(engine, lease, _BEGIN_TOOL, asked)
    if not row["written"]:
        raise _answered(f"Tool call {tool_use_id} of {lease.job}")


async def finish_tool(
    engine: AsyncEngine,
    lease: Lease,
    turn: int,
    tool_use_id: str,
    *,
    result: str,
    is_error: bool,
    milliseconds: int,
    tree: str | None = None,
) -> None:
    """Write down what the model is told about a tool call, and the workspace as it is now.

    Args:
        engine: The ledger.
        lease: The attempt's.
        turn: Whose reply called it.
        tool_use_id: As the model named the call.
        result: What the model is told.
        is_error: Whether it is told that the call failed.
        milliseconds: How long it took.
        tree: The workspace's tree afterwards; `None` when it was not looked at.

    Raises:
        Fenced: The job is no longer this attempt's.
        Damaged: The call was not begun, or has another result.
    """
    told = {
        "turn": turn,
        "tool_use_id": tool_use_id,
        "result": result,
        "is_error": is_error,
        "milliseconds": milliseconds,
        "tree": tree,
    }
    row = await guarded(engine, lease, _FINISH_TOOL, told)
    if not row["written"] and not row["there"]:
        raise _answered(f"Tool call {tool_use_id} of {lease.job}")


def _turn(row: Row) -> Turn:
    parts = {name: row[name] for name in Reply.model_fields if name in row}
    reply = None if row["reply"] is None else Reply(text=row["reply"], **parts)
    others = {name: row[name] for name in Turn.model_fields if name not in ("reply", "tools")}
    return Turn(**others, reply=reply, tools=tuple(ToolCall(**call) for call in row["tools"]))


def _answered(what: str) -> Damaged:
    return Damaged(
        f"{what} has its answer already, or was never begun.",
        hint="Report this: it is a fault of FlowForge. What is written stands.",
    )
