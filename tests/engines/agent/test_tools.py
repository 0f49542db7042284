"""The two tools as a model sees them: what it calls, and what it is told."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest

from flowforge.engines.agent.redaction import Redactor
from flowforge.engines.agent.tools import BASH, EDIT, Call, Tools, definitions
from flowforge.engines.agent.tools_result import ToolResult
from flowforge.engines.sandboxes.sandbox import SandboxLost
from flowforge.rules.jobs.spec import JobSpec, Limits
from tests.engines.agent.folder_sandbox import FolderSandbox

T = TypeVar("T")
SECRET = "xoxb-17653285-AbCdEfGhIjKl"


class Bench:
    """Tools on a real folder."""

    def __init__(self, folder: Path, spec: JobSpec) -> None:
        self.sandbox = FolderSandbox(folder / "sandbox")
        self.here = Path(self.sandbox.workspace)
        (folder / "outputs").mkdir()
        self.tools = Tools(spec, self.sandbox, folder / "outputs", Redactor({"chat": SECRET}))
        self._runner = asyncio.Runner()
        self._calls = 0

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(work)

    def call(self, name: str, input: object) -> ToolResult:
        self._calls += 1
        return self.wait(self.tools.run(Call(f"toolu_{self._calls}", name, input)))

    def bash(self, command: str) -> str:
        return self.call(BASH, {"command": command}).content

    def edit(self, command: str, path: str, **fields: object) -> ToolResult:
        return self.call(EDIT, {"command": command, "path": path, **fields})

    def close(self) -> None:
        self._runner.close()


@pytest.fixture
def bench(tmp_path: Path) -> Any:
    made = Bench(tmp_path, JobSpec(prompt="x", limits=Limits(tool_output=2000)))
    yield made
    made.close()


def test_the_definitions_are_those_of_the_api_and_only_what_the_job_asks_for() -> None:
    both = definitions(JobSpec(prompt="x"))
    assert [(tool["type"], tool["name"]) for tool in both] == [
        ("bash_20250124", "bash"),
        ("text_editor_20250728", "str_replace_based_edit_tool"),
    ]
    assert definitions(JobSpec(prompt="x", tools=("edit",))) == both[1:]
    assert definitions(JobSpec(prompt="x", tools=("edit", "bash"))) == both


def test_a_command_goes_on_where_the_one_before_stopped(bench: Bench) -> None:
    bench.bash("mkdir -p a/b; cd a/b; export NAME='two words'; local_only=1; set -euo pipefail")
    assert bench.bash('pwd; echo "$NAME"; echo "${local_only-unset}"; false; echo on') == (
        f"{bench.here}/a/b\ntwo words\nunset\non"
    )


def test_a_command_that_ends_itself_keeps_its_folder_and_its_status(bench: Bench) -> None:
    (bench.here / "a b'c").mkdir()
    assert bench.bash("""cd "a b'c"; exit 3""") == "[exit status 3]"
    assert bench.bash("pwd") == f"{bench.here}/a b'c"


def test_a_folder_that_is_gone_is_said(bench: Bench) -> None:
    bench.bash("mkdir gone; cd gone; rmdir ../gone")
    assert bench.bash("echo here") == "(the folder it was in is gone)\nhere"


def test_broken_variables_do_not_break_the_next_command(bench: Bench) -> None:
    bench.bash("export PATH=/nowhere; cd /")
    assert "not found" in bench.bash("ls")
    assert bench.call(BASH, {"restart": True}).content.startswith("The shell is new")
    assert bench.bash("pwd; ls | wc -l") == f"{bench.here}\n0"


@pytest.mark.parametrize(
    "script",
    [
        "cat > file <<'END'\nit's $HOME `x`\nEND\ncat file",
        'if true\nthen echo "it\'s \\$HOME \\`x\\`"\nfi # a comment',
        'f() { echo "it\'s \\$HOME \\`x\\`"; }; f',
    ],
)
def test_scripts_are_run_as_they_are_written(bench: Bench, script: str) -> None:
    assert bench.bash(script) == "it's $HOME `x`"


def test_a_command_longer_than_an_argument_may_be_is_run(bench: Bench) -> None:
    text = "x" * 300_000
    assert bench.bash(f"echo {text} > file; wc -c < file") == "300001"


def test_standard_input_is_empty(bench: Bench) -> None:
    assert bench.bash('cat; read x; echo "$?"') == "1"


def test_an_endless_command_is_stopped_and_what_it_said_is_shown(tmp_path: Path) -> None:
    bench = Bench(tmp_path, JobSpec(prompt="x", limits=Limits(tool_seconds=2)))
    result = bench.call(BASH, {"command": "echo before; sleep 600 & wait"})
    bench.close()
    assert result.content.startswith("before\n[stopped after ")
    assert result.is_error


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("true", "(no output)"),
        ("echo x; false", "x\n[exit status 1]"),
        ("kill -SEGV $$", "[exit status 139, ended by SIGSEGV]"),
        ("(", "bash: eval: line 1: syntax error: unexpected end of file\n[exit status 2]"),
        (
            "nothing_like_this",
            "bash: line 1: nothing_like_this: command not found\n[exit status 127]",
        ),
    ],
)
def test_how_a_command_ended_is_said(bench: Bench, command: str, said: str) -> None:
    shown = bench.bash(command)
    assert [line for line in shown.split("\n") if "line" not in line] == [
        line for line in said.split("\n") if "line" not in line
    ]


def test_long_output_is_shown_by_its_ends_and_kept_whole(bench: Bench) -> None:
    result = bench.call(BASH, {"command": "seq 100000"})
    assert result.artifact
    assert result.artifact.read_text() == "".join(f"{n}\n" for n in range(1, 100_001))
    first, note, last = result.content.partition("\n… ")
    assert first.startswith("1\n2\n")
    assert last.endswith("\n99999\n100000")
    gone = int(last.split(" ")[0])
    assert (
        f"… {gone} bytes left out, full output in artifact {result.artifact.name} …" in note + last
    )
    assert gone + len(first) + 1 + len(last.partition("…\n")[2]) + 1 == 588_895
    assert len(result.content) < 2100


def test_more_output_than_is_kept_still_shows_its_end(bench: Bench, tmp_path: Path) -> None:
    result = bench.call(
        BASH, {"command": f"head -c 68000000 /dev/zero | tr '\\0' x; echo {SECRET}"}
    )
    assert result.artifact
    assert result.artifact.stat().st_size == 64 * 1024 * 1024
    assert result.content.endswith("x[secret chat]")


def test_output_that_is_no_text_is_made_harmless_and_kept_as_it_was(bench: Bench) -> None:
    result = bench.call(
        BASH, {"command": r"printf 'a\0b\xff\x1b[31mred\x1b]0;title\x07\x07\r\nc\rd'"}
    )
    name = result.artifact.name if result.artifact else ""
    assert (
        result.content
        == f"a␀b\ufffdred␇\nc\nd\n[not all of it is text; as it was: artifact {name}]"
    )
    assert result.artifact
    assert result.artifact.read_bytes() == b"a\0b\xff\x1b[31mred\x1b]0;title\x07\x07\r\nc\rd"


def test_a_secret_is_in_no_answer_and_no_artifact(bench: Bench, tmp_path: Path) -> None:
    halves = f"printf {SECRET[:9]}; sleep 0.1; printf {SECRET[9:]}; seq 3000"
    encoded = base64.b64encode(f"x{SECRET}".encode()).decode()
    shown = [
        bench.bash(halves),
        bench.bash(f"echo {encoded} | tee file"),
        bench.edit("view", "file").content,
        bench.edit("view", SECRET).content,
        bench.call(SECRET, {}).content,
    ]
    kept = "".join(path.read_text() for path in (tmp_path / "outputs").iterdir())
    assert all("[secret chat]" in text for text in shown)
    assert SECRET[:9] not in "".join([*shown, kept])
    assert encoded[4:20] not in "".join([*shown, kept])


def test_a_lost_sandbox_is_no_answer(bench: Bench, tmp_path: Path) -> None:
    bench.wait(bench.sandbox.close())
    with pytest.raises(SandboxLost):
        bench.bash("true")
    with pytest.raises(SandboxLost):
        bench.edit("view", "x")
    assert list((tmp_path / "outputs").iterdir()) == []


@pytest.mark.parametrize(
    ("name", "input", "said"),
    [
        ("web", {}, "There is no tool 'web'. The tools are: bash, str_replace_based_edit_tool."),
        (BASH, {}, "field `command` is missing"),
        (BASH, {"command": 5}, "field `command`: Input should be a valid string"),
        (BASH, {"command": ""}, "field `command`: String should have at least 1 character"),
        (BASH, {"command": "a\0"}, "field `command` holds a NUL"),
        (BASH, {"restart": "yes"}, "field `restart`: Input should be a valid boolean"),
        (BASH, "ls", "Input should be a valid dictionary"),
        (BASH, {"command": "\ud800"}, "field `command`: Input should be a valid string"),
        (EDIT, {}, "field `command` must be one of view, create, str_replace, insert"),
        (EDIT, {"command": "undo"}, "field `command` must be one of view"),
        (EDIT, {"command": "view"}, "field `path`: Field required"),
        (EDIT, {"command": "view", "path": "a", "view_range": [1]}, "field `view_range`: List"),
        (EDIT, {"command": "view", "path": "a", "view_range": ["1", 2]}, "field `view_range.0`"),
        (EDIT, {"command": "insert", "path": "a", "insert_line": 1}, "field `insert_text`: Field"),
        (EDIT, {"command": "create", "path": "../a", "file_text": ""}, "'../a' is not in the work"),
        (EDIT, {"command": "view", "path": "/etc/passwd"}, "'/etc/passwd' is not in the workspace"),
        (EDIT, {"command": "view", "path": "a/../../b"}, "'a/../../b' is not in the workspace"),
        (EDIT, {"command": "view", "path": "no"}, "no"),
    ],
)
def test_a_wrong_call_says_what_is_wrong(bench: Bench, name: str, input: object, said: str) -> None:
    result = bench.call(name, input)
    assert result.is_error
    assert said in result.content
    assert not result.changed


def test_a_tool_the_job_has_not_is_unknown(tmp_path: Path) -> None:
    bench = Bench(tmp_path, JobSpec(prompt="x", tools=("edit",)))
    assert "The tools are: str_replace_based_edit_tool." in bench.bash("ls")
    bench.close()


def test_a_file_is_written_and_viewed_with_numbers(bench: Bench) -> None:
    assert bench.edit("create", "new/a.py", file_text="one\ntwo\n\nfour").changed
    assert (bench.here / "new/a.py").read_text() == "one\ntwo\n\nfour"
    whole = "     1\tone\n     2\ttwo\n     3\t\n     4\tfour"
    assert bench.edit("view", "new/a.py").content == whole
    assert bench.edit("view", f"{bench.here}/new/a.py").content == whole
    assert bench.edit("view", "new/a.py", view_range=[2, -1]).content == whole[11:]
    assert bench.edit("view", "new/a.py", view_range=[4, 99]).content == "     4\tfour"
    assert bench.edit("view", "new/a.py", view_range=[5, 6]).is_error
    assert not bench.edit("view", "new/a.py").changed


def test_a_long_file_is_cut_with_the_way_to_see_the_rest(bench: Bench) -> None:
    (bench.here / "long").write_text("".join(f"line {n}\n" for n in range(1, 1001)))
    (bench.here / "wide").write_text("x" * 9000)
    shown = bench.edit("view", "long").content
    assert len(shown) < 2100
    assert shown.endswith("… cut here; use `view_range` for lines 132 to 1000 …")
    assert len(bench.edit("view", "wide").content) < 2100


def test_a_folder_is_listed_two_levels_deep(bench: Bench) -> None:
    bench.bash(
        "mkdir -p a/b/c .hidden -- -d; : > a/b/file; : > $'new\\nline'; : > a/x; ln -s a link"
    )
    assert bench.edit("view", ".").content == (
        "In ., two levels deep, without hidden files:\n-d/\na/\na/b/\na/x\nlink\nnew␊line"
    )
    assert bench.edit("view", "a/b").content.endswith("files:\na/b/c/\na/b/file")
    assert bench.edit("view", "-d").content.endswith("files:\n(nothing)")


def test_a_text_that_is_there_once_is_replaced(bench: Bench) -> None:
    (bench.here / "a").write_text("one\ntwo\nthree\ntwo\n")
    result = bench.edit("str_replace", "a", old_str="three\ntwo", new_str="four")
    assert (bench.here / "a").read_text() == "one\ntwo\nfour\n"
    assert result.content == "a is changed. It reads now:\n     1\tone\n     2\ttwo\n     3\tfour"
    assert bench.edit("str_replace", "a", old_str="two\n").changed
    assert (bench.here / "a").read_text() == "one\nfour\n"


def test_a_text_that_is_not_there_once_is_not_replaced(bench: Bench) -> None:
    (bench.here / "a").write_text("one\ntwo\nthree\ntwo\n")
    assert "not in a" in bench.edit("str_replace", "a", old_str="five", new_str="").content
    twice = bench.edit("str_replace", "a", old_str="two", new_str="2")
    assert "2 times, in lines 2, 4" in twice.content
    assert twice.is_error
    assert not twice.changed
    assert (bench.here / "a").read_text() == "one\ntwo\nthree\ntwo\n"


@pytest.mark.parametrize(
    ("before", "line", "text", "after"),
    [
        ("", 0, "x", "x\n"),
        ("a\nb\n", 0, "x", "x\na\nb\n"),
        ("a\nb\n", 1, "x\ny\n", "a\nx\ny\nb\n"),
        ("a\nb\n", 2, "x", "a\nb\nx\n"),
        ("a\nb", 2, "x", "a\nb\nx"),
        ("a\r\nb\r\n", 1, "x", "a\r\nx\r\nb\r\n"),
        ("a\x0cb\u2028c\n", 1, "x", "a\x0cb\u2028c\nx\n"),
    ],
)
def test_lines_are_inserted(bench: Bench, before: str, line: int, text: str, after: str) -> None:
    (bench.here / "a").write_bytes(before.encode())
    assert bench.edit("insert", "a", insert_line=line, insert_text=text).changed
    assert (bench.here / "a").read_bytes().decode() == after
    assert bench.edit("insert", "a", insert_line=99, insert_text="x").is_error


def test_every_byte_that_is_not_meant_stays(bench: Bench) -> None:
    (bench.here / "a").write_bytes("\ufeffeins\r\nzwei\r\ndrei ü 😀".encode())
    assert "(lines end with CRLF)" in bench.edit("view", "a").content
    assert bench.edit("str_replace", "a", old_str="eins\nzwei", new_str="1\n2").changed
    assert (bench.here / "a").read_bytes() == "\ufeff1\r\n2\r\ndrei ü 😀".encode()


def test_a_file_that_is_no_text_is_left_to_the_shell(bench: Bench) -> None:
    (bench.here / "a").write_bytes(b"\xff\xfe")
    assert "is not text (2 bytes)" in bench.edit("view", "a").content
    assert bench.edit("insert", "a", insert_line=0, insert_text="x").is_error
