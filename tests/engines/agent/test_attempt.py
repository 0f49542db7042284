from __future__ import annotations

import json
import subprocess
from pathlib import Path

from flowforge.ledger.journal import artifacts, prices
from flowforge.rules.jobs.prices import cost
from tests.engines.agent.stage import Stage, on_stage

FILES = {"kind": "files", "files": {"a.txt": "one\ntwo\n", "docs/b.txt": "b\n"}}


def test_three_turns_make_a_patch_that_applies_and_cost_what_they_used(
    journal_url: str, tmp_path: Path
) -> None:
    async def story(stage: Stage) -> None:
        job = await stage.submit(
            {"text": "I look.", "tools": [{"bash": "cat a.txt docs/b.txt"}]},
            {
                "text": "I write.",
                "tools": [
                    {
                        "edit": {
                            "command": "str_replace",
                            "path": "a.txt",
                            "old_str": "one\n",
                            "new_str": "eins\n",
                        }
                    },
                    {"bash": "echo neu > c.txt; rm docs/b.txt"},
                ],
            },
            {"text": "It is done."},
            workspace=FILES,
        )
        titles = []
        async with stage.attempt(job) as work:
            while turned := await work.step():
                titles.append(turned.title)
                assert turned.usd > 0
            outcome = await work.finish()
        assert (outcome.state, outcome.reason) == ("succeeded", None)
        assert outcome.result is not None
        assert outcome.result["text"] == "It is done."
        assert outcome.result["rehearsal"] is True
        assert (await stage.job(job)).rehearsal
        assert outcome.result["patch"]["proven"] is True
        assert outcome.result["patch"]["files"] == ["a.txt", "c.txt", "docs/b.txt"]
        assert [turn.n for turn in await stage.turns(job)] == [1, 2, 3]
        assert len(titles) == 2

        patch = await artifacts.get(stage.engine, job, "patch")
        (tmp_path / "docs").mkdir()
        for name, content in FILES["files"].items():  # type: ignore[attr-defined]
            (tmp_path / name).write_text(content)
        subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
        subprocess.run(["git", "apply"], cwd=tmp_path, check=True, input=patch)
        assert (tmp_path / "a.txt").read_text() == "eins\ntwo\n"
        assert (tmp_path / "c.txt").read_text() == "neu\n"
        assert not (tmp_path / "docs/b.txt").exists()

        calls = await stage.calls(job)
        assert [call.outcome for call in calls] == ["paid"] * 3
        price = await prices.price(stage.engine, calls[0].model, calls[0].at.date())
        total = sum(cost(price, call.usage) for call in calls)
        found = await stage.job(job)
        assert found.money.cost_usd == total > 0
        assert found.money.reserved_usd == found.money.unknown_usd == 0
        assert outcome.result["usd"] == f"{total:.6f}"
        assert stage.asked == 3

    on_stage(journal_url, story)


def test_tools_named_together_run_in_their_order_and_are_answered_together(
    journal_url: str,
) -> None:
    async def story(stage: Stage) -> None:
        job = await stage.submit(
            {"tools": [{"bash": f"echo {n} >> log; cat log"} for n in range(3)]},
            {"text": "Done."},
        )
        assert (await stage.work(job)).state == "succeeded"
        assert await stage.results(job) == ["0", "0\n1", "0\n1\n2"]
        assert stage.asked == 2

    on_stage(journal_url, story)


def test_an_answer_of_a_certain_form_is_given_back_as_a_value(journal_url: str) -> None:
    schema = {
        "type": "object",
        "properties": {"answer": {"type": "integer"}},
        "required": ["answer"],
        "additionalProperties": False,
    }

    async def story(stage: Stage) -> None:
        outcome = await stage.play({"output": {"answer": 42}}, output_schema=schema, tools=[])
        assert outcome.state == "succeeded"
        assert outcome.result is not None
        assert outcome.result["output"] == {"answer": 42}
        assert json.loads(outcome.result["text"]) == {"answer": 42}

        outcome = await stage.play({"output": {"answer": "x"}}, output_schema=schema, tools=[])
        assert outcome.state == "failed"
        assert outcome.reason is not None
        assert outcome.reason.endswith("answer: 'x' is not of type 'integer'")

        job = await stage.submit(
            {"text": "Not JSON.", "stop": "stop_sequence"}, tools=[], output_schema=schema
        )
        outcome = await stage.work(job)
        assert outcome.state == "failed"
        assert "it is no JSON" in str(outcome.reason)

    on_stage(journal_url, story)
