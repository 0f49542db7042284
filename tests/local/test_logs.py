from __future__ import annotations

from pathlib import Path

import pytest

from flowforge.errors import Refused
from flowforge.local import logs
from flowforge.local.state import StateFolder


@pytest.fixture
def folder(tmp_path: Path) -> StateFolder:
    folder = StateFolder(tmp_path)
    folder.prepare()
    folder.log("server").write_text("".join(f"line {n}\n" for n in range(500)))
    folder.log("postgres").write_text("ready\n")
    folder.log("empty").touch()
    return folder


class Enough(Exception):
    pass


def test_the_end_of_one_log_is_shown(folder: StateFolder) -> None:
    written: list[str] = []
    logs.show(logs.find(folder, "server"), written.append, follow=False)
    assert written[-1] == "line 499\n"
    assert len(written) == 100


def test_several_logs_say_which_is_which(folder: StateFolder) -> None:
    written: list[str] = []
    logs.show(logs.find(folder, None), written.append, follow=False)
    assert "postgres: ready\n" in written
    assert "server: line 499\n" in written


def test_what_is_added_follows(folder: StateFolder) -> None:
    log = folder.log("postgres")
    log.write_text("an old life, told at length\nready\n")
    written: list[str] = []

    def write(text: str) -> None:
        written.append(text)
        if text == "ready\n":
            log.write_text("a new life\nhalf a li")  # shorter than before: it was emptied
        if text == "a new life\n":
            raise Enough

    with pytest.raises(Enough):
        logs.show([log], write, follow=True)
    assert written[1:] == ["ready\n", "a new life\n"]


def test_an_unknown_log_is_refused_with_those_there_are(folder: StateFolder) -> None:
    with pytest.raises(Refused, match="no log") as refused:
        logs.find(folder, "nonsense")
    assert "postgres" in refused.value.hint
