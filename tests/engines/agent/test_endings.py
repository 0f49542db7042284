from __future__ import annotations

import pytest

from flowforge.engines.agent.hands import DENIED, UNANSWERED
from flowforge.ledger.journal import approvals, artifacts
from flowforge.rules.jobs import steps, stuck
from flowforge.twin.model.faults import Fault
from tests.engines.agent.stage import Stage, on_stage

MARK = {"bash": "echo x >> marks; wc -l < marks"}


async def marks(stage: Stage, job: str) -> int:
    """How often the tool of `MARK` took effect, by the patch."""
    patch = (await artifacts.get(stage.engine, job, "patch")).decode()
    return patch.count("\n+x")


def test_a_pause_is_sent_back_as_it_is_and_no_tool_runs(journal_url: str) -> None:
    async def story(stage: Stage) -> None:
        job = await stage.submit({"text": "I search.", "stop": "pause_turn"}, {"text": "Found."})
        outcome = await stage.work(job)
        assert (outcome.state, stage.asked) == ("succeeded", 2)
        assert await stage.results(job) == []

    on_stage(journal_url, story)


def test_a_model_that_only_pauses_is_left_after_twenty_times(journal_url: str) -> None:
    async def story(stage: Stage) -> None:
        pause = {"text": "Wait.", "stop": "pause_turn", "repeat": 100}
        outcome = await stage.play(pause, limits={"usd": 100})
        assert (outcome.state, stage.asked) == ("failed", steps.MOST_PAUSES + 1)
        assert outcome.reason == "the model paused 21 times in a row"

    on_stage(journal_url, story)


def test_a_tool_in_a_reply_that_was_cut_off_does_not_run_and_the_rest_is_asked_for_once(
    journal_url: str,
) -> None:
    async def story(stage: Stage) -> None:
        cut = {"text": "So", "tools": [MARK], "stop": "max_tokens"}
        job = await stage.submit(cut, {"tools": [MARK]}, {"text": "Done."})
        assert (await stage.work(job)).state == "succeeded"
        assert await stage.results(job) == ["1"]

        used = {"usage": {"output_tokens": 16_000}}
        job = await stage.submit(cut, {"text": "and so", "stop": "max_tokens"} | used)
        outcome = await stage.work(job)
        assert outcome.state == "max_tokens"
        assert await marks(stage, job) == 0

    on_stage(journal_url, story)


def test_a_thought_that_was_cut_off_is_not_sent_back(journal_url: str) -> None:
    async def story(stage: Stage) -> None:
        thought = {"thinking": "so long a thought, " * 50, "text": "Hm."}
        outcome = await stage.play(thought, max_tokens=100)
        assert (outcome.state, stage.asked) == ("max_tokens", 2)  # and no request was refused

    on_stage(journal_url, story)


@pytest.mark.parametrize("category", ["cyber", None])
def test_a_refusal_ends_the_job_whatever_tools_it_names(
    journal_url: str, category: str | None
) -> None:
    async def story(stage: Stage) -> None:
        refused = {"text": "No.", "tools": [MARK], "stop": "refusal", "category": category}
        job = await stage.submit(refused)
        outcome = await stage.work(job)
        assert (outcome.state, stage.asked) == ("refused", 1)
        assert outcome.reason == (category or "the model gave no category")
        assert await marks(stage, job) == 0

    on_stage(journal_url, story)


def test_a_conversation_that_fills_the_window_has_an_end_of_its_own(journal_url: str) -> None:
    async def story(stage: Stage) -> None:
        job = await stage.submit(
            {"tools": [MARK]}, {"text": "So", "stop": "model_context_window_exceeded"}
        )
        assert (await stage.work(job)).state == "context_exceeded"
        assert await marks(stage, job) == 1

        message = "prompt is too long: 200001 tokens > 200000 maximum"
        stage.server.state.faults.add(Fault(kind="status", status=400, message=message, turn=1))
        job = await stage.submit({"tools": [MARK]}, {"text": "Done."})
        outcome = await stage.work(job)
        assert outcome.state == "context_exceeded"
        assert await marks(stage, job) == 1

    on_stage(journal_url, story)


def test_what_is_wrong_with_a_tool_s_input_is_told_to_the_model(journal_url: str) -> None:
    async def story(stage: Stage) -> None:
        job = await stage.submit(
            {
                "tools": [
                    {"bash": {"command": 7}},
                    {"fly": {"to": "the moon"}},
                    {"edit": {"command": "view"}},
                ]
            },
            {"text": "Done."},
        )
        assert (await stage.work(job)).state == "succeeded"
        wrong, unknown, missing = await stage.results(job)
        assert "field `command`" in wrong
        assert "There is no tool 'fly'. The tools are: bash" in unknown
        assert "field `path`" in missing
        turn = (await stage.turns(job))[0]
        assert all(call.is_error for call in turn.tools)

    on_stage(journal_url, story)


def test_an_input_that_is_no_json_is_asked_for_again_once(journal_url: str) -> None:
    async def story(stage: Stage) -> None:
        faults = stage.server.state.faults
        faults.add(Fault(kind="malformed"))
        outcome = await stage.play({"tools": [MARK]}, {"text": "Done."})
        assert (outcome.state, stage.asked) == ("succeeded", 3)

        faults.add(Fault(kind="malformed", count=5))
        job = await stage.submit({"tools": [MARK]}, {"text": "Done."})
        outcome = await stage.work(job)
        assert (outcome.state, stage.asked) == ("failed", 5)
        assert [call.outcome for call in await stage.calls(job)] == ["lost", "lost"]

    on_stage(journal_url, story)


def test_who_does_the_same_again_and_again_is_told_and_then_stopped(journal_url: str) -> None:
    async def story(stage: Stage) -> None:
        job = await stage.submit({"tools": [{"bash": "cat nothing"}], "repeat": 50})
        outcome = await stage.work(job)
        assert (outcome.state, stage.asked) == ("stuck", stuck.STUCK_AT)
        assert outcome.reason == stuck.REASON
        told = [stuck.NUDGE[:20] in result for result in await stage.results(job)]
        assert told == [False, False, False, True, False, False]

    on_stage(journal_url, story)


def test_a_circle_is_noticed_also_when_attempts_end_on_the_way(journal_url: str) -> None:
    async def story(stage: Stage) -> None:
        job = await stage.submit({"tools": [{"bash": "cat nothing"}], "repeat": 50})
        for _ in range(stuck.STUCK_AT - 1):
            async with stage.attempt(job) as work:
                assert await work.step() is not None
        outcome = await stage.work(job)
        assert (outcome.state, stage.asked) == ("stuck", stuck.STUCK_AT)

    on_stage(journal_url, story)


def test_waiting_for_something_is_no_circle(journal_url: str) -> None:
    async def story(stage: Stage) -> None:
        wait = {"tools": [{"bash": "sleep 0.01; cat nothing"}], "repeat": 8}
        poll = {"tools": [{"bash": "date +%N"}], "repeat": 8}
        outcome = await stage.play(wait, poll, {"text": "Done."}, limits={"usd": 100})
        assert (outcome.state, stage.asked) == ("succeeded", 17)

    on_stage(journal_url, story)


def test_turns_and_tokens_end_a_job_with_what_it_did(journal_url: str) -> None:
    async def story(stage: Stage) -> None:
        forever = {"tools": [MARK], "repeat": 50}
        job = await stage.submit(forever, limits={"turns": 2})
        outcome = await stage.work(job)
        assert (outcome.state, stage.asked) == ("max_turns", 2)
        assert await marks(stage, job) == 2

        job = await stage.submit(forever, limits={"output_tokens": 20})
        outcome = await stage.work(job)
        assert outcome.state == "max_tokens"
        assert await marks(stage, job) > 0

    on_stage(journal_url, story)


def test_a_turn_that_might_cost_too_much_is_not_taken(journal_url: str) -> None:
    async def story(stage: Stage) -> None:
        job = await stage.submit(
            {"tools": [MARK], "usage": {"output_tokens": 1000}, "repeat": 50},
            max_tokens=1000,
            limits={"usd": 0.1},
        )
        outcome = await stage.work(job)
        assert outcome.state == "budget_exceeded"
        found = await stage.job(job)
        assert 0 < found.money.cost_usd <= found.limit_usd
        assert found.money.reserved_usd == 0
        turns = len(await stage.turns(job))
        assert await marks(stage, job) == stage.asked > 1
        assert [call.outcome for call in await stage.calls(job)] == ["paid"] * stage.asked
        assert turns == stage.asked + 1  # the one that was not taken was meant to be

    on_stage(journal_url, story)


def test_a_reply_is_kept_as_short_as_the_money_left_and_that_is_said(journal_url: str) -> None:
    async def story(stage: Stage) -> None:
        job = await stage.submit({"text": "word " * 4_000}, {"text": "Rest."}, limits={"usd": 0.07})
        outcome = await stage.work(job)
        assert (outcome.state, stage.asked) == ("budget_exceeded", 1)
        (turn,) = [turn for turn in await stage.turns(job) if turn.reply]
        assert turn.reply and turn.reply.stop_reason == "max_tokens"
        found = await stage.job(job)
        assert 0.05 < found.money.cost_usd <= found.limit_usd

        twice = {"text": "word " * 600, "stop": "max_tokens"}
        job = await stage.submit(twice, twice, {"text": "Rest."}, limits={"usd": 0.07})
        outcome = await stage.work(job)
        assert outcome.state == "budget_exceeded"
        assert "pays for a reply of" in str(outcome.reason)

    on_stage(journal_url, story)


@pytest.mark.parametrize("granted", [True, False])
def test_a_command_waits_for_a_person_and_does_as_the_person_says(
    journal_url: str, granted: bool
) -> None:
    async def story(stage: Stage) -> None:
        job = await stage.submit(
            {"tools": [{"bash": "echo one >> log"}, {"bash": "git push; echo x >> marks"}]},
            {"text": "Done."},
            approval={"commands": ["git push*"], "wait_seconds": 60},
        )
        outcome = await stage.work(job)
        assert outcome.state == "waiting"
        assert outcome.reason == "approval: git push; echo x >> marks"
        asked = (await approvals.list_approvals(stage.engine, job))[0]
        outcome = await stage.work(job)
        assert outcome.state == "waiting"  # nobody has answered
        await approvals.answer(
            stage.engine, job, asked.turn, asked.tool_use_id, granted=granted, by="ann"
        )
        outcome = await stage.work(job)
        assert outcome.reason is None
        assert (outcome.state, stage.asked) == ("succeeded", 2)
        assert await marks(stage, job) == granted
        first, second = await stage.results(job)
        assert first == "(no output)"
        assert second.startswith(DENIED) is not granted

    on_stage(journal_url, story)


def test_without_an_answer_in_time_a_command_does_not_run(journal_url: str) -> None:
    async def story(stage: Stage) -> None:
        job = await stage.submit(
            {"tools": [MARK]},
            {"text": "Done."},
            approval={"commands": ["*"], "wait_seconds": 0.05},
        )
        outcome = await stage.work(job)
        for _ in range(5):
            if outcome.state == "waiting":
                outcome = await stage.work(job)
        assert outcome.reason is None
        assert outcome.state == "succeeded"
        assert await stage.results(job) == [UNANSWERED]
        assert await marks(stage, job) == 0

    on_stage(journal_url, story)
