"""What is answered, without a server: scripts, schemas, and the rules that act without a script."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from flowforge.twin.model import engineer, schemas, script
from flowforge.twin.model.answers import answer
from flowforge.twin.model.asked import Asked
from flowforge.twin.model.models import usable
from flowforge.twin.model.problems import Rejected
from flowforge.twin.model.script import EDIT, Turn
from tests.rehearsal import scripted

BASH: Any = {"type": "bash_20250124", "name": "bash"}
EDITOR: Any = {"type": "text_editor_20250728", "name": EDIT}


def make(prompt: str, **options: Any) -> Asked:
    messages = [{"role": "user", "content": prompt}]
    given = {"model": "claude-sonnet-5-5", "max_tokens": 1000, "messages": messages}
    return Asked.model_validate(given | options)


def play(prompt: str, **options: Any) -> Any:
    asked = make(prompt, **options)
    return answer(asked, asked.model_dump_json().encode(), usable(asked.model), 100)


def test_a_script_may_be_yaml_inside_other_words() -> None:
    prompt = """Please do this:

    ```rehearsal
    - text: |
        I look.
        Then I leave.
      tools: [{bash: 'git log --format="%h: %s"'}, {other: {a: [1, null]}}]
    - {text: Done., seconds: 0.5, repeat: 2}
    - {text: The end.}
    ```

    Thank you."""
    turns = [script.find(prompt, number) for number in range(5)]
    assert [turn and turn.text.split()[0] for turn in turns] == [
        "I",
        "Done.",
        "Done.",
        "The",
        "The",
    ]
    assert turns[0] is not None
    assert [call.name for call in turns[0].tools] == ["bash", "other"]
    assert turns[0].tools[0].input == {"command": 'git log --format="%h: %s"'}


@pytest.mark.parametrize(
    "text", ["", "[]", "- [", "- {stop: never}", "- {tools: [ls]}", "- {tools: [{a: 1, b: 2}]}"]
)
def test_a_script_that_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(Rejected, match="the script in the prompt"):
        script.find(f"```rehearsal\n{text}\n```", 0)


def test_other_fences_are_no_script() -> None:
    assert script.find("```python\n- {text: no}\n```\n", 0) is None


def test_no_tool_is_used_when_none_may_be() -> None:
    turn = {"text": "Well.", "tools": [{"bash": "a"}, {"bash": "b"}]}
    assert len(play(scripted(turn), tool_choice={"type": "none"}).parts) == 1
    one = play(scripted(turn), tool_choice={"type": "auto", "disable_parallel_tool_use": True})
    assert len(one.parts) == 2


def test_a_forced_tool_is_used_with_input_that_fits() -> None:
    form = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    tool: Any = {"name": "save", "input_schema": form}
    found = play("Save it.", tools=[BASH, tool], tool_choice={"type": "tool", "name": "save"})
    assert found.stop == "tool_use"
    assert (found.parts[-1].name, json.loads(found.parts[-1].text)) == ("save", {"n": 0})


def test_usage_can_be_put_on() -> None:
    found = play(scripted({"text": "x", "usage": {"output_tokens": 50_000}}))
    assert found.usage == {"output_tokens": 50_000}


def test_the_window_ends_a_reply_that_would_not_fit() -> None:
    asked = make(scripted({"text": "word " * 500}), max_tokens=100_000)
    model = usable(asked.model)
    found = answer(asked, b"", model, model.max_input_tokens - 50)
    assert found.stop == "model_context_window_exceeded"
    assert found.tokens() <= 50


@pytest.mark.parametrize("limit", [1, 2, 9, 10, 11, 17, 18, 19, 60])
def test_a_reply_is_never_longer_than_it_may_be(limit: int) -> None:
    turn = {
        "text": "Grüße 🎈 und mehr",
        "tools": [{"bash": "echo 🎈🎈🎈🎈🎈🎈🎈🎈🎈🎈"}, {"bash": "b"}],
    }
    found = play(scripted(turn), max_tokens=limit)
    assert found.tokens() <= limit
    assert (found.stop == "max_tokens") is (limit < 50)


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "string"}, "rehearsal"),
        ({"type": "string", "format": "date"}, "2000-01-01"),
        ({"type": "string", "minLength": 12, "maxLength": 12}, "rehearsal..."),
        ({"enum": ["b", "a"]}, "b"),
        ({"const": 7}, 7),
        ({"type": "integer", "minimum": 3}, 3),
        ({"type": "integer", "exclusiveMinimum": 3}, 4),
        ({"type": "number", "maximum": -2}, -2),
        ({"type": ["null", "string"]}, None),
        ({"type": "boolean"}, False),
        ({"type": "array", "items": {"type": "boolean"}, "minItems": 2}, [False, False]),
        ({"anyOf": [{"$ref": "#"}, {"type": "null"}]}, None),
        (
            {
                "allOf": [{"$ref": "#/$defs/a~1b"}, {"required": ["y"]}],
                "properties": {"y": {"const": 2}},
                "$defs": {"a/b": {"properties": {"x": {"const": 1}}, "required": ["x"]}},
            },
            {"x": 1, "y": 2},
        ),
    ],
)
def test_a_value_fits_its_schema(schema: dict[str, object], value: object) -> None:
    assert schemas.example(schema) == value


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]},
        {"$ref": "#"},
        {"$ref": "#/$defs/none"},
        {"allOf": [True]},
    ],
)
def test_a_schema_without_an_end_is_refused(schema: dict[str, object]) -> None:
    with pytest.raises(Rejected, match="schema"):
        schemas.example(schema)


def work(folder: Path, prompt: str) -> list[Turn]:
    """Let the rules work on a folder, with tools as simple as can be."""
    messages: list[Any] = [{"role": "user", "content": prompt}]
    turns = []
    for number in range(12):
        turns.append(engineer.reply(make("", messages=messages, tools=[BASH, EDITOR])))
        if not turns[-1].tools:
            return turns
        uses, results = [], []
        for place, call in enumerate(turns[-1].tools):
            name = f"toolu_{number}_{place}"
            uses.append({"type": "tool_use", "id": name, "name": call.name, "input": call.input})
            output = _edit(folder, call.input) if call.name == EDIT else _run(folder, call.input)
            results.append({"type": "tool_result", "tool_use_id": name, "content": output})
        messages += [{"role": "assistant", "content": uses}, {"role": "user", "content": results}]
    raise AssertionError("the rules do not come to an end")


def _run(folder: Path, given: dict[str, Any]) -> str:
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    done = subprocess.run(
        ["bash", "-c", given["command"]],
        cwd=folder,
        env={"PATH": path, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr or "(no output)"


def _edit(folder: Path, given: dict[str, Any]) -> str:
    path = folder / given["path"]
    if given["command"] == "create":
        path.write_text(given["file_text"])
        return "created"
    lines = path.read_text().splitlines(keepends=True)
    lines.insert(given["insert_line"], given["insert_text"])
    path.write_text("".join(lines))
    return "inserted"


def test_a_missing_import_is_added_and_the_tests_run_again(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(
        '"""A shop."""\n\nfrom __future__ import annotations\n\nimport os\n\n'
        "def save(x: int) -> str:\n    return os.linesep + json.dumps(x)\n"
    )
    (tmp_path / "test_shop.py").write_text(
        "import shop\n\ndef test_save():\n    assert shop.save(1).strip() == '1'\n"
    )
    turns = work(tmp_path, "Fix the failing test.")
    assert "import json\nimport os\n" in (tmp_path / "shop.py").read_text()
    assert "The tests pass" in turns[-1].text
    assert "added an import: shop.py" in turns[-1].text
    assert not (tmp_path / "NOTES.md").exists()


def test_what_the_rules_cannot_mend_is_noted_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "test_sum.py").write_text("def test_sum():\n    assert 1 + 1 == 3\n")
    (tmp_path / "NOTES.md").write_text("mine\n")
    turns = work(tmp_path, "Fix the failing test.\nIt is urgent.")
    notes = (tmp_path / "REHEARSAL-NOTES.md").read_text()
    assert "Asked: Fix the failing test.\n" in notes
    assert "assert (1 + 1) == 3" in notes
    assert "The tests fail" in turns[-1].text
    assert (tmp_path / "NOTES.md").read_text() == "mine\n"


def test_a_run_of_no_test_is_no_success(tmp_path: Path) -> None:
    (tmp_path / "test_nothing.py").write_text("NOTHING = 1\n")
    turns = work(tmp_path, "Make the tests pass.")
    assert "The tests were not found: none ran" in turns[-1].text
    assert "pass" not in turns[-1].text


def test_an_empty_folder_gets_a_note(tmp_path: Path) -> None:
    turns = work(tmp_path, "Add a function.")
    assert "It found no tests. It wrote NOTES.md" in turns[-1].text
    assert "- none" in (tmp_path / "NOTES.md").read_text()


def test_the_rules_never_pass_for_a_model(tmp_path: Path) -> None:
    first, *_, last = work(tmp_path, "Do it.")
    alone = engineer.reply(make("What is love?"))
    assert all("rehearsal: no model" in turn.text for turn in (first, last, alone))
    assert not alone.tools
