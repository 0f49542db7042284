from __future__ import annotations

from decimal import Decimal

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from flowforge.errors import Damaged, Refused
from flowforge.ledger.journal import forks, jobs, leases, money, turns
from flowforge.ledger.journal.presence import presence
from flowforge.rules.jobs.records import Reply
from tests.ledger.journal.steps import MODEL, USAGE, a_lease, a_turn, on

TEXT = '{"z": 1, "a": {"b":2},  "text": "\\u0000 and \\ud800"}'


def test_turns_are_read_as_they_were_written_and_in_order(url: str) -> None:
    async def story(engine: AsyncEngine) -> None:
        lease = await a_lease(engine)
        await a_turn(engine, lease, 1)
        await turns.begin(engine, lease, 2, "hash-2", MODEL)
        await money.reserve(engine, lease, 2, 1, Decimal("0.1"), MODEL)
        reply = Reply(text=TEXT, stop_reason="tool_use", cache_miss="tools_changed")
        await turns.finish(engine, lease, 2, 1, reply, usage=USAGE, usd=Decimal("0.01"))
        for position, name in enumerate(("toolu_z", "toolu_a")):
            await turns.begin_tool(engine, lease, 2, position, name, name="bash", input="{}")
        await turns.finish_tool(
            engine, lease, 2, "toolu_a", result="a\0b\ud83d", is_error=True, milliseconds=12
        )
        one, two = await turns.read(engine, lease.job)
        assert (one.n, one.calls, [tool.done for tool in one.tools]) == (1, 1, [True])
        assert two.reply == reply
        assert [(t.tool_use_id, t.done) for t in two.tools] == [
            ("toolu_z", False),
            ("toolu_a", True),
        ]
        assert two.tools[1].result == "a\ufffdb\ufffd"
        assert two.tools[1].is_error
        assert await turns.read(engine, lease.job, after=1) == [two]

    on(url, story)


def test_the_next_attempt_sees_what_was_begun_and_not_finished(url: str) -> None:
    async def story(engine: AsyncEngine) -> None:
        lease = await a_lease(engine)
        await a_turn(engine, lease, 1)
        await turns.begin_tool(engine, lease, 1, 1, "open", name="bash", input="{}")
        await turns.begin(engine, lease, 2, "old", MODEL)
        await money.reserve(engine, lease, 2, 1, Decimal("0.1"), MODEL)
        async with presence(engine, grace=0) as here:
            new = await here.claim(lease.job, "new")
        one, two = await turns.read(engine, lease.job)
        assert [tool.done for tool in one.tools] == [True, False]
        assert (two.reply, two.calls) == (None, 1)
        await turns.begin(engine, new, 2, "new", MODEL)
        await money.reserve(engine, new, 2, two.calls + 1, Decimal("0.1"), MODEL)
        reply = Reply(text="{}", stop_reason="end_turn")
        await turns.finish(engine, new, 2, 2, reply, usage=USAGE, usd=Decimal("0.01"))
        await turns.begin_tool(engine, new, 1, 1, "open", name="bash", input="{}")
        last = (await turns.read(engine, lease.job))[1]
        assert (last.request_hash, last.fence, last.calls) == ("new", new.fence, 2)

    on(url, story)


def test_what_was_answered_is_never_begun_again(url: str) -> None:
    async def story(engine: AsyncEngine) -> None:
        lease = await a_lease(engine)
        await a_turn(engine, lease, 1)
        with pytest.raises(Damaged, match="answer already"):
            await turns.begin(engine, lease, 1, "h", MODEL)
        with pytest.raises(Damaged, match="answer already"):
            await turns.begin_tool(engine, lease, 1, 0, "toolu_1", name="bash", input="{}")
        with pytest.raises(Damaged, match="answer already"):
            await turns.finish_tool(
                engine, lease, 1, "toolu_1", result="other", is_error=False, milliseconds=1
            )
        with pytest.raises(Damaged, match="never begun"):
            await turns.finish_tool(
                engine, lease, 1, "nobody", result="x", is_error=False, milliseconds=1
            )
        await leases.advance(engine, lease, "finishing")

    on(url, story)


def test_a_fork_goes_on_from_the_turns_of_another_job_and_pays_only_for_its_own(url: str) -> None:
    async def story(engine: AsyncEngine) -> None:
        source, fork = await a_lease(engine), await a_lease(engine)
        for n in (1, 2, 3):
            await a_turn(engine, source, n)
        for _ in range(2):
            await forks.adopt(engine, fork, source.job, 2)
        adopted, there = await turns.read(engine, fork.job), await turns.read(engine, source.job)
        assert [turn.reply for turn in adopted] == [turn.reply for turn in there[:2]]
        assert [turn.tools[0].result for turn in adopted] == ["done", "done"]
        assert await money.list_calls(engine, fork.job) == []
        with pytest.raises(Refused, match="has not finished 4 turns"):
            await forks.adopt(engine, fork, source.job, 4)
        assert (await jobs.look(engine, fork.job)).turns == 2

    on(url, story)


def test_one_reply_that_no_model_gave_makes_a_job_a_rehearsal(url: str) -> None:
    async def story(engine: AsyncEngine) -> None:
        lease = await a_lease(engine)
        await a_turn(engine, lease, 1)
        assert not (await jobs.look(engine, lease.job)).rehearsal
        await turns.begin(engine, lease, 2, "hash-2", MODEL)
        await money.reserve(engine, lease, 2, 1, Decimal("0.1"), MODEL)
        reply = Reply(text="{}", stop_reason="end_turn")
        await turns.finish(
            engine, lease, 2, 1, reply, usage=USAGE, usd=Decimal("0.01"), rehearsal=True
        )
        await a_turn(engine, lease, 3)
        assert (await jobs.look(engine, lease.job)).rehearsal

    on(url, story)
