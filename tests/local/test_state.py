from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from flowforge.errors import Refused
from flowforge.local.state import VERSION, State, StateFolder


@pytest.fixture
def folder(tmp_path: Path) -> StateFolder:
    return StateFolder(tmp_path / "a state folder")


def test_what_is_written_is_read_again(folder: StateFolder) -> None:
    folder.prepare()
    folder.write(State(ports={"api": 8081}, steps={"ledger": "abc"}))
    assert folder.read() == State(ports={"api": 8081}, steps={"ledger": "abc"})
    assert json.loads(folder.file.read_text())["version"] == VERSION


def test_nobody_else_may_read_it(folder: StateFolder) -> None:
    folder.prepare()
    folder.write_secrets(folder.read_passwords(), "postgresql://ledger")
    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700
    for file in (folder.file, folder.secrets):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_passwords_stay_the_same(folder: StateFolder) -> None:
    folder.prepare()
    passwords = folder.read_passwords()
    folder.write_secrets(passwords, "postgresql://ledger")
    assert folder.read_passwords() == passwords
    assert len(set(passwords.values())) == len(passwords) == 5


def test_databases_without_their_passwords_are_refused(folder: StateFolder) -> None:
    folder.prepare()
    folder.postgres.mkdir()
    (folder.postgres / "PG_VERSION").write_text("18\n")
    with pytest.raises(Refused, match="nobody can enter") as refused:
        folder.read_passwords()
    assert "--forget" in refused.value.hint


def test_the_state_of_a_newer_flowforge_is_refused(folder: StateFolder) -> None:
    folder.prepare()
    folder.file.write_text(json.dumps({"version": VERSION + 1}))
    with pytest.raises(Refused, match="newer") as refused:
        folder.read()
    assert "FLOWFORGE_STATE" in refused.value.hint


def test_the_state_of_an_older_flowforge_is_upgraded(folder: StateFolder) -> None:
    folder.prepare()
    folder.file.write_text(json.dumps({"ports": {"api": 8090}, "steps": {"x": "y"}, "gone": 1}))
    state = folder.read()
    assert state == State(ports={"api": 8090}, steps={})
    folder.write(state)
    assert json.loads(folder.file.read_text())["version"] == VERSION


@pytest.mark.parametrize("text", ["", "[]", '{"version": "x"}', "\0"])
def test_a_state_that_cannot_be_read_is_refused(folder: StateFolder, text: str) -> None:
    folder.prepare()
    folder.file.write_text(text)
    with pytest.raises(Refused, match="cannot be read"):
        folder.read()


def test_a_folder_full_of_something_else_is_neither_used_nor_deleted(folder: StateFolder) -> None:
    folder.path.mkdir()
    treasure = folder.path / "thesis.txt"
    treasure.write_text("years of work")
    with pytest.raises(Refused, match="not empty"):
        folder.prepare()
    with pytest.raises(Refused, match="nothing was deleted"):
        folder.forget()
    assert treasure.read_text() == "years of work"


def test_forgetting_deletes_everything_but_what_links_lead_to(
    folder: StateFolder, tmp_path: Path
) -> None:
    folder.prepare()
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").touch()
    (folder.path / "link").symlink_to(outside)
    folder.forget()
    assert not folder.path.exists()
    assert (outside / "kept").exists()


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Refused, match="cannot be used"):
        StateFolder(tmp_path / "file" / "state").prepare()
