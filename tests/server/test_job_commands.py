from __future__ import annotations

import asyncio
import io
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from rich.console import Console
from sqlalchemy.ext.asyncio import AsyncEngine

from flowforge.cli import job_files, job_view
from flowforge.errors import Refused
from flowforge.ledger.journal import approvals, jobs
from flowforge.rules.jobs.records import Event
from tests.cli.conftest import Command
from tests.server.attempts import PATCH, attempt, hold, on, work
from tests.server.running import Running
from tests.server.test_jobs import a_job, database


@pytest.fixture
def flowforge(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    server: Running,
) -> Command:
    command = Command(tmp_path, monkeypatch, capsys)
    command.environment["FLOWFORGE_API_URL"] = f"{server.api}/api"
    return command


@contextmanager
def worker(server: Running, label: str, state: str = "succeeded") -> Iterator[None]:
    """Works on the one job that will carry a label."""

    async def find_and_work(engine: AsyncEngine) -> None:
        async with asyncio.timeout(30):
            while not (found := await jobs.list_jobs(engine, labels={"for": label})):
                await asyncio.sleep(0.05)
        await work(engine, found[0].id, state)  # type: ignore[arg-type]

    thread = threading.Thread(target=on, args=(database(server), find_and_work))
    thread.start()
    yield
    thread.join()


def git(folder: Path, *words: str) -> str:
    command = ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@b", *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_a_job_is_run_to_its_end_and_its_patch_applied_to_the_folder(
    flowforge: Command, server: Running
) -> None:
    (flowforge.folder / "a.txt").write_text("one\n")
    (flowforge.folder / "link").symlink_to("/etc/hostname")
    options = ("--repo", ".", "--usd", "1", "--turns", "9", "--wall", "60", "--apply")
    with worker(server, "run"):
        said = flowforge("job", "run", "Do it.", *options, "--label", "for=run")
    assert said.code == 0, said.err
    assert "left out: link" in said.err
    assert "It is done." in said.out
    assert "1 file, +1 -1 lines, proven to apply" in said.out
    assert "turn 2  $0.0123  bash" in said.err
    assert "bash  make  ok, 0.0 s" in said.err
    assert (flowforge.folder / "a.txt").read_text() == "two\n"


def test_a_job_that_did_not_succeed_exits_with_1_and_prints_one_object(
    flowforge: Command, server: Running
) -> None:
    with worker(server, "json", "max_turns"):
        said = flowforge("job", "run", "-", "--label", "for=json", "--json", stdin="Do it.\n")
    assert said.code == 1
    assert said.json["outcome"]["state"] == "max_turns"
    assert [event["seq"] for event in said.json["events"]] == list(range(1, 11))
    assert said.json["job"]["state"] == "max_turns"


def test_a_spec_in_a_file_is_submitted_and_options_win(flowforge: Command) -> None:
    spec = "prompt: Do it.\nlimits: {usd: 5, turns: 3}\nlabels: {a: b}\n"
    (flowforge.folder / "job.yaml").write_text(spec)
    words = ("job", "run", "-f", "job.yaml", "--usd", "1", "--key", "file", "--no-wait", "--json")
    job = flowforge(*words).json["job"]["id"]
    assert flowforge(*words[:-1]).out == f"{job}\n"
    shown = flowforge("job", "get", job, "--json").json["job"]
    assert (shown["spec"]["limits"]["usd"], shown["spec"]["limits"]["turns"]) == (1, 3)
    assert shown["labels"] == {"a": "b"}
    assert f"flowforge job tail {job}" in flowforge("job", "get", job).err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("run",), "either a prompt or a file"),
        (("run", "x", "-f", "job.yaml"), "either a prompt or a file"),
        (("run", "-f", "missing.yaml"), "missing.yaml cannot be read"),
        (("run", "x", "--repo", "nowhere"), "nowhere is no folder"),
        (("run", "x", "--repo", ".", "--ref", "main"), "belong to the URL"),
        (("run", "x", "--label", "odd"), "no label"),
        (("run", "x", "--apply", "--no-wait"), "needs the job's end"),
        (("run", "x", "--usd", "-1"), "limits.usd"),
        (("run", "x", "--egress", "10.0.0.1"), "sandbox.egress"),
        (("list", "--state", "odd"), "no state of a job"),
        (("get", "job_none"), "There is no job job_none"),
    ],
)
def test_what_cannot_be_is_refused_with_the_way_out(
    flowforge: Command, words: tuple[str, ...], said: str
) -> None:
    answer = flowforge("job", *words)
    assert answer.code == 3
    assert said in answer.err
    assert "  -> " in answer.err


def test_a_password_in_the_address_of_a_repository_is_refused_and_not_repeated(
    flowforge: Command,
) -> None:
    answer = flowforge("job", "run", "x", "--repo", "https://me:hunter2@example.com/x.git")
    assert answer.code == 3
    assert "hunter2" not in answer.err + answer.out


def test_what_a_job_left_is_shown_written_and_applied(flowforge: Command, server: Running) -> None:
    job = a_job(server)
    on(database(server), lambda engine: work(engine, job))
    assert flowforge("job", "patch", job).out == PATCH.decode()
    assert flowforge("job", "patch", job, "-o", "p.diff").out == ""
    assert (flowforge.folder / "p.diff").read_bytes() == PATCH
    assert flowforge("job", "patch", job, "--json").json["patch"] == PATCH.decode()
    cost = flowforge("job", "cost", job)
    assert "0.024691" in cost.out
    assert flowforge("job", "cost", job, "--json").json["cost"]["usd"] == "0.024691"
    replayed = flowforge("job", "replay", job).out
    assert "--- turn 2" in replayed
    assert "  $ make" in replayed
    assert "  | made" in replayed
    assert len(flowforge("job", "replay", job, "--json").json["turns"]) == 2
    shown = flowforge("job", "get", job).out
    assert "left behind   patch, output-1-0" in shown
    assert job in flowforge("job", "list", "--state", "succeeded").out
    assert flowforge("job", "tail", job, "--after", "9").code == 0


def test_a_patch_that_does_not_apply_touches_nothing(flowforge: Command, server: Running) -> None:
    job = a_job(server)
    on(database(server), lambda engine: work(engine, job))
    (flowforge.folder / "a.txt").write_text("three\n")
    said = flowforge("job", "patch", job, "--apply", ".")
    assert said.code == 3
    assert "does not apply" in said.err
    assert (flowforge.folder / "a.txt").read_text() == "three\n"


def test_a_job_is_cancelled_and_deleted(flowforge: Command, server: Running) -> None:
    job = a_job(server)
    assert flowforge("job", "delete", job).code == 3
    assert "cancelled" in flowforge("job", "cancel", job, "--by", "ann").out
    assert flowforge("job", "tail", job).code == 1
    assert flowforge("job", "delete", job).code == 0
    assert flowforge("job", "cancel", job, "--json").json["error"]["kind"] == "refused"


def test_a_command_that_waits_is_approved(flowforge: Command, server: Running) -> None:
    job = a_job(server)

    async def story(engine: AsyncEngine) -> None:
        async with attempt(engine, job) as lease:
            for call in ("toolu_1", "toolu_2"):
                await approvals.ask(engine, lease, 1, call, command="git push", seconds=60)

    on(database(server), story)
    assert "toolu_1: git push; toolu_2" in flowforge("job", "approve", job).err
    assert "denied" in flowforge("job", "approve", job, "--call", "toolu_1", "--refuse").out
    assert "granted" in flowforge("job", "approve", job, "--by", "ann").out
    assert "waits for an answer" in flowforge("job", "approve", job).err


def test_the_files_of_a_repository_are_those_git_does_not_ignore(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet")
    (tmp_path / ".gitignore").write_text("secret.env\n")
    (tmp_path / "secret.env").write_text("KEY=1")
    (tmp_path / "kept.txt").write_text("ä\n")
    (tmp_path / "odd\nname.bin").write_bytes(b"\0\xff")
    (tmp_path / "gone.txt").write_text("")
    git(tmp_path, "add", ".")
    (tmp_path / "gone.txt").unlink()
    (tmp_path / "new.txt").write_text("untracked\n")
    (tmp_path / "link").symlink_to("/etc/passwd")
    (tmp_path / "short").symlink_to("kept.txt")
    (tmp_path / "new.txt").chmod(0o755)
    found = job_files.gather(tmp_path)
    assert found.files == {
        ".gitignore": "secret.env\n",
        "kept.txt": "ä\n",
        "new.txt": "untracked\n",
    }
    assert found.binary == {"odd\nname.bin": "AP8="}
    assert (found.executable, found.links) == (["new.txt"], {"short": "kept.txt"})
    assert found.left_out == ["link"]


def test_a_folder_that_is_no_repository_goes_whole_but_links_that_lead_out_stay(
    tmp_path: Path,
) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.txt").write_text("one\n")
    (tmp_path / "linked").symlink_to("/etc")
    (tmp_path / "lib").symlink_to("sub")
    found = job_files.gather(tmp_path)
    assert (found.files, found.left_out) == ({"sub/a.txt": "one\n"}, ["linked"])
    assert found.links == {"lib": "sub"}


def test_too_much_is_refused_before_it_is_read(tmp_path: Path) -> None:
    with (tmp_path / "large").open("wb") as large:
        large.truncate(17 * 1024 * 1024)
    with pytest.raises(Refused, match="16 MiB") as caught:
        job_files.gather(tmp_path)
    assert "URL" in caught.value.hint


def test_a_folder_inside_of_a_repository_takes_a_patch_for_itself(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet")
    folder = tmp_path / "part"
    folder.mkdir()
    (folder / "a.txt").write_text("one\n")
    job_files.apply(PATCH, folder)
    assert (folder / "a.txt").read_text() == "two\n"


def told(*happened: tuple[str, dict[str, object]]) -> str:
    shown = io.StringIO()
    teller = job_view.Teller("job_1", Console(file=shown, width=200, highlight=False))
    for seq, (kind, data) in enumerate(happened, start=1):
        teller.tell(Event(seq=seq, at=datetime.now(UTC), kind=kind, data=data))
    return shown.getvalue()


def test_what_a_model_or_a_tool_wrote_does_nothing_to_a_terminal() -> None:
    evil = "\x1b]0;owned\x07\x1b[2J[bold]\u202e\r\nnext"
    text = told(
        ("turn", {"n": 1, "state": "replied", "text": evil, "tools": [evil], "usd": 0.1}),
        ("tool", {"state": "done", "name": evil, "input": evil, "output": evil, "ms": 1}),
        ("approval", {"state": "asked", "command": evil, "tool_use_id": evil}),
        ("retry", {"why": evil, "wait_seconds": 2}),
        ("note", {"text": evil}),
        ("egress", {"host": evil, "refusal": evil, "times": 2}),
        ("ended", {"state": "failed", "reason": evil}),
        ("a kind of the future", {"text": evil}),
    )
    assert set("\x1b\x07\r\u202e").isdisjoint(text)
    assert r"\x1b]0;owned\x07" in text
    assert "[bold]" in text


def test_a_long_output_is_cut_and_says_so() -> None:
    text = told(("tool", {"state": "done", "name": "bash", "output": "x\n" * 40, "ms": 2500}))
    assert "… 28 more lines" in text
    assert "ok, 2.5 s" in text


def test_a_command_that_waits_is_shown_with_the_way_to_answer() -> None:
    asked = {"turn": 3, "tool_use_id": "toolu_9", "command": "git push", "state": "asked"}
    assert "flowforge job approve job_1 --call toolu_9" in told(("approval", asked))
    assert "granted: git push" in told(("approval", asked | {"state": "granted"}))


def test_a_job_that_waits_for_an_account_says_how_it_goes_on(
    flowforge: Command, server: Running
) -> None:
    job = a_job(server, labels={"held": "yes"})
    on(database(server), lambda engine: hold(engine, job, "till"))
    for words in (("job", "get", job), ("job", "list", "--label", "held=yes")):
        said = flowforge(*words)
        assert "Jobs wait for the account till, tried again when it is closed" in said.err
        assert "`flowforge breaker close till`" in said.err
    listed = flowforge("breaker", "list")
    assert "HTTP 401: no" in listed.out
    assert "`flowforge breaker close till`" in listed.err
    found = flowforge("breaker", "list", "--json").json["breakers"]
    assert [one["jobs"] for one in found if one["account"] == "till"] == [1]
    assert "jobs that go on  1" in flowforge("breaker", "close", "till", "--by", "ann").out
    assert "No breaker is open for till" in flowforge("breaker", "close", "till").out
    assert "breaker" not in flowforge("job", "get", job).err


def test_who_follows_a_job_that_waits_for_an_account_is_told_the_way_on() -> None:
    text = told(("state", {"state": "waiting", "reason": "account till: HTTP 401: no"}))
    assert "waiting: account till: HTTP 401: no" in text
    assert "-> flowforge breaker close till" in text
    assert "->" not in told(("state", {"state": "waiting", "reason": "rate: too fast"}))
