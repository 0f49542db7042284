"""How fast the model may be asked, by all workers together.

A bucket belongs to a credential, a class of models and a dimension. Before the provider has told
its limits, only requests are limited, with care. Taking is one statement under the ledger's clock,
and what it changes need not survive a power cut.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from flowforge.ledger.journal.connection import Row, fetch, run, transaction
from flowforge.rules.jobs import rates
from flowforge.rules.jobs.rates import Bucket, Dimension, Told
from flowforge.rules.values import Value

_RATE = f"(b.per_minute / 60 * {rates.HEADROOM} * b.factor)"
_NOW = "CAST(extract(epoch FROM clock_timestamp()) AS double precision)"

_HASTY = "hasty AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true) AS off)"

_TAKE = sa.text(f"""
WITH {_HASTY},
locked AS (
  SELECT b.key, greatest(b.arrival, {_NOW}) + a.amount / {_RATE} AS arrival,
         greatest(b.arrival, {_NOW}) + (a.amount - b.burst) / {_RATE} - {_NOW} AS wait
    FROM flowforge.buckets b
    JOIN unnest(CAST(:keys AS text[]), CAST(:amounts AS double precision[])) AS a (key, amount)
      ON a.key = b.key
   ORDER BY b.key FOR NO KEY UPDATE OF b
), verdict AS (
  SELECT greatest(0, max(wait)) AS wait, count(*) AS limits,
         (SELECT reason FROM flowforge.breakers
           WHERE credential = :credential AND coalesce(until > now(), true)) AS breaker
    FROM locked
), taken AS (
  UPDATE flowforge.buckets b SET arrival = l.arrival FROM locked l, verdict v
   WHERE b.key = l.key AND v.breaker IS NULL AND v.wait <= :longest
)
SELECT wait, limits, breaker, off FROM verdict, hasty
""")

_GIVE_BACK = sa.text(f"""
WITH {_HASTY},
locked AS (
  SELECT b.key, b.arrival - u.amount / {_RATE} AS arrival
    FROM flowforge.buckets b
    JOIN unnest(CAST(:keys AS text[]), CAST(:amounts AS double precision[])) AS u (key, amount)
      ON u.key = b.key
   ORDER BY b.key FOR NO KEY UPDATE OF b
), given AS (
  UPDATE flowforge.buckets b SET arrival = l.arrival FROM locked l WHERE b.key = l.key
  RETURNING b.*
)
SELECT key, arrival, per_minute AS limit, burst, factor, changed_at, {_NOW} AS now, off
  FROM given, hasty ORDER BY key
""")

_READ = f"""
SELECT key, arrival, per_minute AS limit, burst, factor, changed_at,
       {_NOW} AS now
  FROM flowforge.buckets WHERE key = ANY(CAST(:keys AS text[])) ORDER BY key
"""
_LOOK = sa.text(_READ)
_LOCK = sa.text(f"{_READ} FOR NO KEY UPDATE")

_WRITE = sa.text("""
UPDATE flowforge.buckets SET arrival = :arrival, per_minute = :limit, burst = :burst,
       factor = :factor, changed_at = :changed_at WHERE key = :key
""")

_OPEN = sa.text("""
INSERT INTO flowforge.buckets (key, per_minute, burst) VALUES (:key, :limit, :burst)
ON CONFLICT (key) DO NOTHING
""")

LONGEST_WAIT_SECONDS = 60.0


class Turn(Value):
    """When one may go on."""

    wait_seconds: float
    taken: bool
    """Whether a place in the line is taken. When not, give the job back and come again then."""

    breaker: str | None = None
    """Why this credential is not used at all now."""


async def take(
    engine: AsyncEngine,
    credential: str,
    models: str,
    amounts: Mapping[Dimension, float],
    *,
    longest: float = LONGEST_WAIT_SECONDS,
) -> Turn:
    """Take a place in the line for one call.

    Args:
        engine: The ledger.
        credential: The name, never the key, of what is paid with.
        models: The class of models that share a limit.
        amounts: What the call will use: one request, its tokens.
        longest: Who would wait longer than so many seconds takes no place.
    """
    keys = {_key(credential, models, dimension): amount for dimension, amount in amounts.items()}
    bound = {
        "keys": list(keys),
        "amounts": [float(amount) for amount in keys.values()],
        "credential": credential,
        "longest": longest,
    }
    row = (await run(engine, _TAKE, bound))[0]
    if not row["limits"] and "requests" in amounts:
        await _open(engine, credential, models, "requests", rates.UNKNOWN_REQUESTS)
        row = (await run(engine, _TAKE, bound))[0]
    taken = row["breaker"] is None and row["wait"] <= longest
    return Turn(wait_seconds=row["wait"], taken=taken, breaker=row["breaker"])


async def correct(
    engine: AsyncEngine,
    credential: str,
    models: str,
    told: Mapping[Dimension, Told],
    *,
    unused: Mapping[Dimension, float] | None = None,
) -> None:
    """Follow what a good response said about the limits; mostly that is only looked at.

    Args:
        engine: The ledger.
        credential: As for `take`.
        models: As for `take`.
        told: What was said.
        unused: What was taken and not used, as of a reply shorter than feared; it is returned.
    """
    told = {dimension: said for dimension, said in told.items() if said.limit > 0}
    by_key = {_key(credential, models, dimension): dimension for dimension in told}
    given = {_key(credential, models, name): float(n) for name, n in (unused or {}).items()}
    keys = sorted({*by_key, *given})
    amounts = [given.get(key, 0.0) for key in keys]
    rows = await run(engine, _GIVE_BACK, {"keys": keys, "amounts": amounts})
    known = {row["key"] for row in rows}
    missing = [name for name in told if _key(credential, models, name) not in known]
    for dimension in missing:
        await _open(engine, credential, models, dimension, told[dimension].limit)

    def follow(key: str, bucket: Bucket, now: float) -> Bucket:
        unused = given.get(key, 0.0)
        taken = rates.give_back(bucket, -unused)  # when the limits were told, it still was
        followed = rates.correct(by_key[key], taken, told[by_key[key]], now)
        return bucket if followed == taken else rates.give_back(followed, unused)

    if missing or any(_changes(follow, row) for row in rows if row["key"] in by_key):
        await _change(engine, list(by_key), follow)


async def refuse(engine: AsyncEngine, credential: str, models: str, retry_after: float) -> None:
    """After a 429 nobody goes on for so many seconds, and then more slowly."""

    def slow_down(_: str, bucket: Bucket, now: float) -> Bucket:
        return rates.refuse(bucket, retry_after, now)

    await _change(engine, _all(credential, models), slow_down)


async def put_off_growth(engine: AsyncEngine, credential: str, models: str) -> None:
    """After a failure of the provider, 5xx or 529, the rate does not grow for a while."""

    def stay(_: str, bucket: Bucket, now: float) -> Bucket:
        return rates.put_off_growth(bucket, now)

    await _change(engine, _all(credential, models), stay)


async def read(engine: AsyncEngine, credential: str, models: str) -> dict[str, Bucket]:
    """The buckets as they are, by dimension."""
    rows = await run(engine, _LOOK, {"keys": _all(credential, models)})
    return {row["key"].rpartition("/")[2]: _bucket(row) for row in rows}


async def _open(
    engine: AsyncEngine, credential: str, models: str, dimension: Dimension, limit: float
) -> None:
    bucket = rates.new(dimension, limit)
    key = _key(credential, models, dimension)
    await run(engine, _OPEN, {"key": key, "limit": bucket.limit, "burst": bucket.burst})


Changed = Callable[[str, Bucket, float], Bucket]


async def _change(engine: AsyncEngine, keys: list[str], change: Changed) -> None:
    async with transaction(engine) as connection:
        await _change_locked(connection, keys, change)


async def _change_locked(connection: AsyncConnection, keys: list[str], change: Changed) -> None:
    for row in await fetch(connection, _LOCK, {"keys": keys}):
        after = change(row["key"], _bucket(row), row["now"])
        if after != _bucket(row):
            await fetch(connection, _WRITE, {"key": row["key"], **after.model_dump()})


def _changes(change: Changed, row: Row) -> bool:
    return change(row["key"], _bucket(row), row["now"]) != _bucket(row)


def _bucket(row: Row) -> Bucket:
    return Bucket(**{name: row[name] for name in Bucket.model_fields})


def _key(credential: str, models: str, dimension: str) -> str:
    return f"{credential}/{models}/{dimension}"


def _all(credential: str, models: str) -> list[str]:
    return [_key(credential, models, name) for name in rates.DIMENSIONS]
