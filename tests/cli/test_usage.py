"""What the command says, and the exit code it says it with, when nothing is reached."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import typer.core
import typer.main

from flowforge import cli, terminal
from tests.cli.conftest import Command
from tests.ports import free_port

SECRET = "postgresql://u:hush@h/d"


def test_help_lists_every_group_and_version_is_a_line(flowforge: Command) -> None:
    helped, version = flowforge.in_a_process("--help"), flowforge.in_a_process("--version")
    assert (helped.code, version.code) == (0, 0)
    for word in ("deploy", "database", "store", "notify", "backup", "restore", "ledger"):
        assert f"\n  {word} " in helped.out
    assert version.out.startswith("flowforge")
    assert len(version.out.splitlines()) == 1


@pytest.mark.parametrize(
    "words", [["nonsense"], ["backup", "run"], ["backup", "list", "--colour"], ["backup"], []]
)
def test_what_is_typed_wrongly_is_64(flowforge: Command, words: list[str]) -> None:
    said = flowforge(*words)
    assert said.code == 64
    assert said.err and not said.out


def test_a_usage_error_is_json_when_json_was_asked_for(flowforge: Command) -> None:
    said = flowforge("backup", "run", "--json")
    assert said.code == 64
    assert said.json["error"]["kind"] == "usage"


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["database", "add", SECRET], 3),
        (["database", "add", "shop", SECRET], 3),
        (["notify", "add", "team", SECRET, "--slack"], 3),
        (["backup", "run", SECRET], 3),
        (["backup", "run", "shop", SECRET], 3),
        (["backup", "run", "shop", "app", SECRET], 64),
        (["restore", "plan", "shop", "--to-server", SECRET], 3),
        (["backup", "show", SECRET], 3),
        (["ledger", "rebuild", "--store", SECRET], 3),
    ],
)
def test_a_secret_on_a_command_line_is_refused_and_not_repeated(
    flowforge: Command, words: list[str], code: int
) -> None:
    said = flowforge(*words)
    assert said.code == code
    assert "hush" not in said.out + said.err


def test_bad_names_are_refused_with_json_before_anything_is_asked(flowforge: Command) -> None:
    said = flowforge("backup", "run", "Not A Name", "--json")
    assert said.code == 3
    assert said.json["error"]["kind"] == "refused"
    assert "lowercase" in said.json["error"]["hint"]


def test_a_server_that_is_away_is_1_and_says_how_to_start_it(flowforge: Command) -> None:
    url = f"http://127.0.0.1:{free_port()}/api"
    said = flowforge("backup", "list", FLOWFORGE_API_URL=url)
    assert said.code == 1
    assert "flowforge up" in said.err


def test_a_database_that_is_away_is_not_saved(flowforge: Command) -> None:
    url = f"postgresql://u:hush@127.0.0.1:{free_port()}/d"
    said = flowforge("database", "add", "shop", stdin=url)
    assert said.code == 1
    assert "did not answer" in said.err
    assert "hush" not in said.err


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["database", "add", "shop"], "printenv"),
        (["database", "add", "shop", "--url-env", "NOT_SET"], "printenv"),
        (["store", "add", "s", "--folder", "./not here"], "mkdir -p '"),
        (["notify", "add", "team"], "--webhook"),
        (["notify", "add", "team", "--webhook", "--slack"], "exactly one"),
        (["notify", "add", "team", "--smtp", "host"], "HOST:PORT"),
        (["notify", "add", "team", "--smtp", "host:25"], "--from"),
        (["ledger", "rebuild", "--store", "s", "--folder", "/"], "FLOWFORGE_LEDGER_URL"),
        (["backup", "verify", "yesterday", "--server", "shop"], "backup-YYYYmmdd-HHMMSS"),
    ],
)
def test_what_is_missing_is_said_as_an_instruction(
    flowforge: Command, words: list[str], hint: str
) -> None:
    said = flowforge(*words)
    assert said.code == 3
    assert hint in said.err


def test_an_unknown_profile_is_refused(flowforge: Command) -> None:
    said = flowforge("backup", "list", "--profile", "mars")
    assert said.code == 3
    assert "Known are: none." in said.err


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (5, "5 s"),
        (170, "3 min"),
        (7 * 3600 + 720, "7 h 12 min"),
        (9 * 86400, "9 d"),
    ],
)
def test_an_age_is_told_in_its_largest_units(seconds: int, text: str) -> None:
    assert terminal.show_age(datetime.now(UTC) - timedelta(seconds=seconds)) == text


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 B"), (999, "999 B"), (12_400_000, "12.4 MB"), (5e15, "5000.0 TB")]
)
def test_a_size_is_told_in_decimal_units(size: float, text: str) -> None:
    assert terminal.show_bytes(size) == text


def test_odd_names_stay_on_their_line_and_are_no_markup(
    capsys: pytest.CaptureFixture[str],
) -> None:
    terminal.print_table(("name",), [("a\nb\x1b[31m [red]c[/red]",)])
    printed = capsys.readouterr().out
    assert "a\\nb\\x1b[31m [red]c[/red]" in printed


def test_no_line_of_help_is_cut_off(flowforge: Command) -> None:
    command = typer.main.get_command(cli.assemble())
    assert isinstance(command, typer.core.TyperGroup)
    groups = [name for name, one in command.commands.items() if hasattr(one, "commands")]
    for words in ([], *([group] for group in groups)):
        helped = flowforge(*words, "--help", COLUMNS="80")
        assert helped.code == 0
        told = helped.out.partition("\n")[2]  # the first line is the usage
        assert [line for line in told.splitlines() if line.endswith("...")] == []
