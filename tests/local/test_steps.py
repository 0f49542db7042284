from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

import pytest

from flowforge.errors import Damaged, Refused, Unavailable
from flowforge.local.steps import Abort, Aborted, Step, run_command, run_steps


class Told:
    def __init__(self) -> None:
        self.begun: list[str] = []
        self.ended: list[str] = []

    def begin(self, title: str) -> None:
        self.begun.append(title)

    def done(self, title: str, seconds: float, note: str) -> None:
        self.ended.append(f"{title} {note}".strip())

    def say(self, text: str) -> None:
        self.ended.append(text)


def _run(steps: list[Step], remembered: dict[str, str] | None = None) -> Told:
    told = Told()
    run_steps(steps, remembered or {}, told, lambda step: told.ended.append(f"kept {step.title}"))
    return told


def test_a_step_waits_for_those_it_needs() -> None:
    told = _run(
        [
            Step("roof", lambda _: "on", ("walls",)),
            Step("walls", lambda _: "up", ("floor",)),
            Step("floor", lambda _: "down"),
        ]
    )
    assert told.begun == ["floor", "walls", "roof"]
    assert told.ended[-2:] == ["roof on", "kept roof"]


def test_steps_that_do_not_need_each_other_run_side_by_side() -> None:
    meeting = threading.Barrier(2, timeout=10)

    def meet(_: Abort) -> str:
        meeting.wait()
        return "met"

    assert set(_run([Step("one", meet), Step("two", meet)]).begun) == {"one", "two"}


def test_a_step_whose_inputs_are_as_before_is_skipped() -> None:
    steps = [
        Step("same", lambda _: "", inputs="a"),
        Step("changed", lambda _: "", ("same",), inputs="b"),
        Step("after", lambda _: "", ("changed",)),
    ]
    assert _run(steps, {"same": "a", "changed": "old"}).begun == ["changed", "after"]


def test_a_failed_step_ends_the_others_and_is_what_is_reported() -> None:
    ended = threading.Event()

    def wait_for_ever(abort: Abort) -> str:
        try:
            while True:
                abort.pause()
        except Aborted:
            ended.set()
            raise

    def fail(_: Abort) -> str:
        raise Refused("no", hint="do something else")

    with pytest.raises(Refused, match="no"):
        _run([Step("long", wait_for_ever), Step("bad", fail), Step("never", fail, ("bad",))])
    assert ended.is_set()


def _command(tmp_path: Path, code: str, told: str = "", abort: Abort | None = None) -> str:
    return run_command(
        [sys.executable, "-c", code],
        log=tmp_path / "command.log",
        environment={"SEEN": "yes"},
        directory=tmp_path,
        abort=abort or Abort(),
        told=told,
    )


def test_a_command_reads_what_it_is_told_and_sees_only_its_environment(tmp_path: Path) -> None:
    code = "import os, sys; print(sys.stdin.read(), os.environ['SEEN'], 'HOME' in os.environ)"
    assert _command(tmp_path, code, told="secret") == "secret yes False\n"


@pytest.mark.parametrize(("exit_code", "kind"), [(1, Unavailable), (3, Refused), (4, Damaged)])
def test_a_failed_command_is_an_error_of_its_kind_with_its_last_words(
    tmp_path: Path, exit_code: int, kind: type[Exception]
) -> None:
    code = f"import sys; print('the reason', file=sys.stderr); sys.exit({exit_code})"
    with pytest.raises(kind, match="the reason") as failed:
        _command(tmp_path, code)
    assert "command.log" in str(failed.value)


def test_a_command_is_ended_when_another_step_failed(tmp_path: Path) -> None:
    abort = Abort()
    timer = threading.Timer(0.2, abort.set)
    timer.start()
    began = time.monotonic()
    with pytest.raises(Aborted):
        _command(tmp_path, "import time; time.sleep(60)", abort=abort)
    timer.join()
    assert time.monotonic() - began < 30
