"""What models cost, as dated data: a new price is a new row, and old calls keep theirs."""

from __future__ import annotations

from datetime import UTC, date, datetime

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from flowforge.errors import Refused
from flowforge.ledger.journal.connection import fetch, run, transaction
from flowforge.rules.jobs.prices import Band, Price, without_date

_READ = sa.text("""
SELECT p.* FROM flowforge.prices p
 WHERE (model, from_date) = (
   SELECT model, from_date FROM flowforge.prices
    WHERE model IN (:model, :undated) AND from_date <= :day
    ORDER BY model = :model DESC, from_date DESC LIMIT 1)
 ORDER BY above_tokens
""")

_DROP = sa.text("DELETE FROM flowforge.prices WHERE model = :model AND from_date = :from_date")

_ADD = sa.text("""
INSERT INTO flowforge.prices (model, from_date, above_tokens, input_usd, output_usd,
  write_5m_factor, write_1h_factor, read_factor, batch_factor, source)
VALUES (:model, :from_date, :above_tokens, :input_usd, :output_usd,
  :write_5m_factor, :write_1h_factor, :read_factor, :batch_factor, :source)
""")


async def price(engine: AsyncEngine, model: str, day: date) -> Price:
    """What a model costs on a day. A dated snapshot costs what its model does.

    Raises:
        Refused: Nobody entered a price, and a job without one could not be held to its limit.
    """
    asked = {"model": model, "undated": without_date(model), "day": day}
    rows = await run(engine, _READ, asked)
    if not rows:
        raise Refused(
            f"No price is known for {model}.",
            hint="Choose another model, or enter its price in the table flowforge.prices.",
        )
    bands = [Band(**{name: row[name] for name in Band.model_fields}) for row in rows]
    shared = {name: rows[0][name] for name in Price.model_fields if name != "bands"}
    return Price(**shared, bands=tuple(bands))


class Today:
    """What one model costs, asked for once a day."""

    def __init__(self, engine: AsyncEngine, model: str) -> None:
        self._engine, self._model = engine, model
        self._known: tuple[date, Price] | None = None

    async def today(self) -> Price:
        """What it costs today, as `price` says."""
        day = datetime.now(UTC).date()
        if self._known is None or self._known[0] != day:
            self._known = (day, await price(self._engine, self._model, day))
        return self._known[1]


async def enter(engine: AsyncEngine, new: Price) -> None:
    """Enter a price, in place of the one with the same date."""
    shared = new.model_dump(exclude={"bands"}) | {"source": new.source}
    async with transaction(engine) as connection:
        await fetch(connection, _DROP, {"model": new.model, "from_date": new.from_date})
        for band in new.bands:
            await fetch(connection, _ADD, shared | band.model_dump())
