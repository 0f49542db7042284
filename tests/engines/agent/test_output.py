from __future__ import annotations

import base64
import json
import resource
from pathlib import Path

import pytest

from flowforge.engines.sandboxes.local import LocalProvider
from flowforge.ledger.journal import artifacts
from tests.engines.agent.stage import Stage, on_stage
from tests.engines.agent.worker import elsewhere

SECRET = "hunter2-but-longer-0815"


def test_a_secret_that_a_command_prints_is_in_nothing_that_is_kept(journal_url: str) -> None:
    encoded = base64.b64encode(SECRET.encode()).decode()
    half = len(SECRET) // 2

    async def story(stage: Stage) -> None:
        job = await stage.submit(
            {
                "text": "I look.",
                "tools": [
                    {"bash": f"printf %s {SECRET[:half]}; sleep 0.05; printf %s {SECRET[half:]}"},
                    {"bash": f"printf %s%s {SECRET[:half]} {SECRET[half:]} | base64"},
                    {
                        "bash": f"s={SECRET[:half]}; s=$s{SECRET[half:]}; "
                        "for i in $(seq 3000); do echo $s; done"
                    },
                ],
            },
            {"text": f"The secret is {SECRET}, I say."},
        )
        outcome = await stage.work(job)
        assert outcome.state == "succeeded"
        assert "[secret db]" in str(outcome.result)
        results = await stage.results(job)
        assert all("[secret db]" in result for result in results)
        named = [a.name for a in await artifacts.list_artifacts(stage.engine, job)]
        assert any(name.startswith("output-") for name in named)
        kept = [(await artifacts.get(stage.engine, job, name)).decode() for name in named]
        told = json.dumps([event.data for event in await stage.events(job)])
        found = json.dumps((await stage.job(job)).result)
        for text in [*kept, *results, told, found, str(outcome)]:
            assert SECRET not in text.replace("\n", "")
            assert encoded not in text

    on_stage(journal_url, story, secrets={"db": SECRET})


def test_a_job_edits_and_tests_its_files_in_a_sandbox_of_this_machine(
    journal_url: str, local: LocalProvider
) -> None:
    test = "python3 -c 'import a; assert a.double(2) == 4' && echo it works; ls -a ~ /root; id -u"
    files = {"a.py": "def double(n):\n    return n + n + 1\n"}

    async def story(stage: Stage) -> None:
        job = await stage.submit(
            {"tools": [{"bash": test}]},
            {
                "tools": [
                    {
                        "edit": {
                            "command": "str_replace",
                            "path": "a.py",
                            "old_str": " + 1",
                            "new_str": "",
                        }
                    },
                    {"bash": test},
                ]
            },
            {"text": "It works."},
            workspace={"kind": "files", "files": files},
        )
        outcome = await stage.work(job)
        assert (outcome.state, outcome.reason) == ("succeeded", None)
        wrong, edited, right = await stage.results(job)
        assert "AssertionError" in wrong
        assert edited.startswith("a.py is changed")
        assert "it works" in right
        assert outcome.result is not None
        assert outcome.result["patch"]["proven"] is True
        assert outcome.result["patch"]["files"] == ["a.py"]
        assert await local.list_open() == []

    on_stage(journal_url, story, provider=local)


def test_a_command_that_does_not_end_is_ended_and_what_it_said_is_told(
    journal_url: str, local: LocalProvider
) -> None:
    async def story(stage: Stage) -> None:
        job = await stage.submit(
            {
                "tools": [
                    {"bash": "echo begun; setsid sleep 300 & while :; do :; done"},
                    {"bash": "pgrep sleep; echo none"},
                ]
            },
            {"text": "Done."},
            limits={"tool_seconds": 1},
        )
        outcome = await stage.work(job)
        assert outcome.state == "succeeded"
        ended, after = await stage.results(job)
        assert ended.startswith("begun\n[stopped after 1 s")
        assert after == "none"

    on_stage(journal_url, story, provider=local)


def _print_much(url: str, report: str) -> None:
    """Write down by how many bytes two jobs that print much have the process grow."""

    async def story(stage: Stage) -> int:
        def prints(megabytes: int) -> dict[str, object]:
            return {"tools": [{"bash": f"yes 0123456789abcdef | head -c {megabytes}000000"}]}

        assert (await stage.play(prints(2), {"text": "Done."})).state == "succeeded"
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        job = await stage.submit(prints(50), {"text": "Done."})
        assert (await stage.work(job)).state == "succeeded"
        (kept,) = [
            a for a in await artifacts.list_artifacts(stage.engine, job) if a.name[:6] == "output"
        ]
        assert kept.size_bytes == 50_000_000
        return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024

    grown = on_stage(url, story, secrets={"db": SECRET}, provider=LocalProvider())
    Path(report).write_text(str(grown))


@pytest.mark.slow
def test_the_brain_does_not_grow_by_what_a_command_prints(
    journal_url: str, local: LocalProvider, tmp_path: Path
) -> None:
    report = tmp_path / "grown"
    with elsewhere(_print_much, journal_url, str(report)) as process:
        process.join(120)
        assert process.exitcode == 0
    assert int(report.read_text()) < 5_000_000
