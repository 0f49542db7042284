"""What a job cost, turn by turn."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import ROUND_HALF_EVEN, Decimal

from flowforge.rules.jobs.prices import Usage
from flowforge.rules.jobs.records import Call
from flowforge.rules.values import Value

_MICRO = Decimal("0.000001")


class TurnCost(Value):
    """All calls of one turn together."""

    turn: int
    calls: int
    """How often the model was called for it; all but one failed or were lost."""

    model: str
    usage: Usage
    usd: Decimal
    unknown_usd: Decimal
    """The most that was billed beyond `usd` by calls whose end nobody saw."""


class Cost(Value):
    """What a job cost so far."""

    turns: tuple[TurnCost, ...]
    usage: Usage
    usd: Decimal
    """The sum over all calls, to six decimals; the turns are exact."""

    unknown_usd: Decimal


def add_up(calls: Iterable[Call]) -> Cost:
    """Add up the calls of a job, which come in the order they were made."""
    turns: dict[int, list[Call]] = {}
    for call in calls:
        turns.setdefault(call.turn, []).append(call)
    rows = tuple(_of_turn(turn, made) for turn, made in sorted(turns.items()))
    return Cost(
        turns=rows,
        usage=sum((row.usage for row in rows), Usage()),
        usd=to_micros(sum((row.usd for row in rows), Decimal(0))),
        unknown_usd=to_micros(sum((row.unknown_usd for row in rows), Decimal(0))),
    )


def to_micros(usd: Decimal) -> Decimal:
    """An amount to a millionth of a dollar."""
    return usd.quantize(_MICRO, ROUND_HALF_EVEN)


def _of_turn(turn: int, made: list[Call]) -> TurnCost:
    return TurnCost(
        turn=turn,
        calls=len(made),
        model=made[-1].model,
        usage=sum((call.usage for call in made), Usage()),
        usd=sum((call.usd for call in made), Decimal(0)),
        unknown_usd=sum((call.unknown_usd for call in made), Decimal(0)),
    )
