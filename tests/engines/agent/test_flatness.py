from __future__ import annotations

import statistics
from typing import Any, Self

import psycopg
import pytest
import sqlalchemy as sa

from tests.engines.agent.stage import Stage, on_stage

_OF_TIME = (
    "flowforge.events",
    "pg_notify",
    "SET lease_until",
)  # as often as time passes, not turns


class Written:
    """What was sent to the journal since the last look."""

    def __init__(self, stage: Stage) -> None:
        self.statements = 0
        self.bytes = 0
        note = self._note

        class Noted(psycopg.AsyncCursor[Any]):
            async def execute(self, query: Any, params: Any = None, **more: Any) -> Self:
                note(query, params)
                return await super().execute(query, params, **more)

        def lend(connection: Any, *_: Any) -> None:
            connection.driver_connection.cursor_factory = Noted

        sa.event.listen(stage.engine.sync_engine.pool, "checkout", lend)

    def _note(self, statement: str, sent: Any) -> None:
        if not any(part in statement for part in _OF_TIME):
            self.statements += 1
            self.bytes += len(str(sent))

    def take(self) -> tuple[int, int]:
        taken = self.statements, self.bytes
        self.statements = self.bytes = 0
        return taken


@pytest.mark.parametrize("turns", [12, pytest.param(200, marks=pytest.mark.slow)])
def test_a_turn_costs_the_journal_as_much_late_as_early(journal_url: str, turns: int) -> None:
    async def story(stage: Stage) -> None:
        job = await stage.submit(
            {"tools": [{"bash": "date +%s%N | tee now"}], "repeat": turns},
            {"text": "Done."},
            limits={"turns": 1000, "usd": 1000},
        )
        costs = []
        async with stage.attempt(job) as work:
            written = Written(stage)
            for _ in range(turns):
                assert await work.step() is not None
                costs.append(written.take())
            assert await work.step() is None
            assert (await work.finish()).state == "succeeded"
        half = turns // 4
        early, late = costs[1 : half + 1], costs[-half:]
        statements = [statistics.median(n for n, _ in part) for part in (early, late)]
        size = [statistics.median(n for _, n in part) for part in (early, late)]
        assert statements[0] == statements[1] < 20
        assert size[1] < 1.5 * size[0]

    on_stage(journal_url, story)
