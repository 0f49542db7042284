"""README tells the truth: every word it says to type exists, and no deployment is left out."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer.main
import yaml

from flowforge.cli import assemble

ROOT = Path(__file__).parents[2]
_FENCED = re.compile(r"^```[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"`([^`\n]+)`")


def code_of(text: str) -> list[str]:
    """The lines of a Markdown text that are set as code, without prompts."""
    fenced = [line for block in _FENCED.findall(text) for line in block.splitlines()]
    spans = _SPAN.findall(_FENCED.sub("", text))
    return [line.strip().removeprefix("$ ").strip() for line in [*fenced, *spans]]


def untrue_make_words(text: str, makefile: str) -> list[str]:
    """`make X` of a text whose X the Makefile does not have."""
    targets = set(re.findall(r"^([a-z][a-z-]*):", makefile, re.MULTILINE))
    said = [word for line in code_of(text) for word in re.findall(r"\bmake ([a-z][\w-]*)", line)]
    return sorted({word for word in said if word not in targets})


def untrue_commands(text: str) -> list[str]:
    """`flowforge x y` of a text that the command would not understand."""
    untrue = set()
    for line in code_of(text):
        line = re.sub(r"\$\(([^()]*)\)", r" ; \1", line.split(" #")[0])
        for part in re.split(r"\s(?:\||&&|;)\s|;\s", line):
            said = re.fullmatch(r"(?:\S*/)?flowforge(?: (\S.*))?", part.strip())
            words = shlex.split(said[1]) if said and said[1] else []
            if not _is_understood(words):
                untrue.add(" ".join(words))
    return sorted(untrue)


def _is_understood(words: list[str]) -> bool:
    command = typer.main.get_command(assemble())
    for position, word in enumerate(words):
        known = getattr(command, "commands", None)
        if known is None:
            options = {option for p in command.params for option in (*p.opts, *p.secondary_opts)}
            options.add("--help")
            rest = [w.strip("[]").split("=")[0] for w in words[position:]]
            return all(w in options for w in rest if w.startswith("--"))
        choices = word.strip("[]").split("|")
        if choices[0].startswith("--"):
            return choices[0] in {"--help", "--version", "--json"}
        if any(choice not in known for choice in choices):
            return False
        command = known[choices[0]]
    return True


def unlisted_deployments(text: str, prefect_yaml: str) -> list[str]:
    """Deployments that no row of a table in the text names."""
    entries = yaml.safe_load(prefect_yaml)["deployments"]
    names = [
        f"{entry['entrypoint'].rpartition(':')[2].replace('_', '-')}/{entry['name']}"
        for entry in entries
    ]
    rows = [line for line in text.splitlines() if line.lstrip().startswith("|")]
    return [name for name in names if not any(f"`{name}`" in row for row in rows)]


def test_every_make_word_in_the_readme_exists() -> None:
    readme = (ROOT / "README.md").read_text()
    assert untrue_make_words(readme, (ROOT / "Makefile").read_text()) == []


def test_every_command_in_the_readme_exists() -> None:
    assert untrue_commands((ROOT / "README.md").read_text()) == []


def test_every_deployment_is_in_the_readme() -> None:
    readme, wanted = (ROOT / "README.md").read_text(), (ROOT / "prefect.yaml").read_text()
    assert unlisted_deployments(readme, wanted) == []


def test_the_readme_says_how_to_start_and_how_to_test() -> None:
    code = code_of((ROOT / "README.md").read_text())
    assert {"make up", "make test"} <= {" ".join(line.split()[:2]) for line in code}


@pytest.mark.parametrize(
    ("text", "untrue"),
    [
        ("Type `make up`.", []),
        ("Type `make upp`.", ["upp"]),
        ("```\n$ make up && make rehearsal\n```", ["rehearsal"]),
        ("These make sense without being code.", []),
    ],
)
def test_a_make_word_that_does_not_exist_is_named(text: str, untrue: list[str]) -> None:
    assert untrue_make_words(text, "up: ready\ndown:\n") == untrue


@pytest.mark.parametrize(
    ("text", "untrue"),
    [
        ("`flowforge backup run shop`", []),
        ("`flowforge backup run SERVER [DATABASE] --store NAME`", []),
        ("`flowforge database list|test|remove`", []),
        ("`printenv URL | flowforge database add shop`", []),
        ("```\nflowforge backup list --json | jq .\n```", []),
        ("`flowforge backup destroy shop`", ["backup destroy shop"]),
        ("`flowforge database list|burn`", ["database list|burn"]),
        ("`flowforge backup run shop --fast`", ["backup run shop --fast"]),
        ("`flowforge recover`", ["recover"]),
        ("The flowforge command is not set as code here.", []),
        ("```\nflowforge    a drawing of the floors\n```", []),
    ],
)
def test_a_command_that_does_not_exist_is_named(text: str, untrue: list[str]) -> None:
    assert untrue_commands(text) == untrue


def test_a_deployment_without_a_row_is_named() -> None:
    wanted = (
        "deployments: [{name: weekly, entrypoint: 'flows/a.py:restore_drill'}, "
        "{name: nightly, entrypoint: 'flows/b.py:backup_postgres'}]"
    )
    text = "`backup-postgres/nightly` is only mentioned.\n\n| `restore-drill/weekly` | Sundays |\n"
    assert unlisted_deployments(text, wanted) == ["backup-postgres/nightly"]
