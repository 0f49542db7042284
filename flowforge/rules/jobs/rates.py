"""How fast the model may be asked: one bucket per limit, shared by all workers.

A bucket is the generic cell rate algorithm: a single moment, the theoretical arrival time, says how
full it is. Every taker moves it on and waits until its own turn, so nobody is refused and nobody
overtakes. What the provider says about its own buckets only ever moves ours to be stricter.

All moments are seconds since 1970, as the ledger's clock tells them.
"""

from __future__ import annotations

from typing import Literal

from flowforge.rules.values import Value

Dimension = Literal["requests", "input_tokens", "output_tokens"]
DIMENSIONS: tuple[Dimension, ...] = ("requests", "input_tokens", "output_tokens")

HEADROOM = 0.95
"""The part of the provider's limit that is used."""

CUT = 0.8
GROWTH = 0.05
LOWEST_FACTOR = 0.05
EPISODE_SECONDS = 5.0
"""Refusals so close together are one; growth waits as long after a change."""

UNKNOWN_REQUESTS = 300.0
"""Requests a minute before the provider has told its limit, which the first response does."""

BURST_SECONDS: dict[Dimension, float] = {
    "requests": 0.5,  # a crowd starts almost evenly
    "input_tokens": 60.0,  # one call may need a good part of a minute's tokens
    "output_tokens": 60.0,
}
"""A full bucket holds what flows in during so long."""

_MINUTE = 60.0


class Bucket(Value):
    """One limit of one credential and class of models."""

    arrival: float
    """The theoretical arrival time; in the past, the bucket is full."""

    limit: float
    """What the provider allows in a minute."""

    burst: float
    """What may be taken at once from a full bucket."""

    factor: float = 1.0
    """The part of the usual rate that is used now: cut after a refusal, grown back later."""

    changed_at: float = 0.0
    """When `factor` last changed, or when growth was last put off."""

    @property
    def rate(self) -> float:
        """What flows in per second."""
        return self.limit / _MINUTE * HEADROOM * self.factor


class Told(Value):
    """What a response says about one limit."""

    limit: float
    remaining: float


def new(dimension: Dimension, limit: float) -> Bucket:
    """A full bucket for a limit per minute."""
    burst = max(1.0, limit / _MINUTE * BURST_SECONDS[dimension])
    return Bucket(arrival=0.0, limit=limit, burst=burst)


def take(bucket: Bucket, amount: float, now: float) -> tuple[Bucket, float]:
    """Take from a bucket.

    Returns:
        The bucket afterwards, and the seconds to wait before going on.
    """
    arrival = max(bucket.arrival, now) + amount / bucket.rate
    wait = max(0.0, arrival - bucket.burst / bucket.rate - now)
    return bucket.model_copy(update={"arrival": arrival}), wait


def give_back(bucket: Bucket, amount: float) -> Bucket:
    """Return what was taken and not used."""
    return bucket.model_copy(update={"arrival": bucket.arrival - amount / bucket.rate})


def correct(dimension: Dimension, bucket: Bucket, told: Told, now: float) -> Bucket:
    """Follow what a good response said; the same bucket when there is nothing to change.

    A new limit is taken over with its burst, and what was taken stays taken. Fewer tokens left
    than ours had means somebody else uses the limit too: ours is emptied as far. More left means
    nothing, because what is under way is not counted yet. A rate that was cut grows when it was
    quiet long enough.
    """
    changes: dict[str, float] = {}
    if told.limit > 0 and told.limit != bucket.limit:
        changes["limit"] = told.limit
        changes["burst"] = new(dimension, told.limit).burst
        ahead = max(0.0, bucket.arrival - now)
        changes["arrival"] = now + ahead * bucket.limit / told.limit
    if bucket.factor < 1 and now - bucket.changed_at >= EPISODE_SECONDS:
        changes["factor"] = min(1.0, bucket.factor + GROWTH)
        changes["changed_at"] = now
    followed = bucket.model_copy(update=changes)
    emptied = now + (followed.burst - min(told.remaining, followed.burst)) / followed.rate
    if told.remaining < followed.burst and emptied > bucket.arrival + 1 / followed.rate:
        followed = followed.model_copy(update={"arrival": emptied})
    return followed


def refuse(bucket: Bucket, retry_after: float, now: float) -> Bucket:
    """After a refusal nobody goes on for `retry_after` seconds; the rate is cut once an episode.

    The bucket is empty when the time is over: a crowd that waited does not rush in at once.
    """
    changes: dict[str, float] = {}
    if now - bucket.changed_at >= EPISODE_SECONDS:
        changes["factor"] = max(LOWEST_FACTOR, bucket.factor * CUT)
        changes["changed_at"] = now
    cut = bucket.model_copy(update=changes)
    arrival = max(bucket.arrival, now + max(retry_after, 0.0) + cut.burst / cut.rate)
    return cut.model_copy(update={"arrival": arrival})


def put_off_growth(bucket: Bucket, now: float) -> Bucket:
    """After a failure of the provider the rate is neither cut nor grown for an episode."""
    return bucket.model_copy(update={"changed_at": now})
