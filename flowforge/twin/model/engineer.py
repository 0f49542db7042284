"""What is done without a script: a few rules that look, run the tests and note what they saw.

The one repair it knows is a missing import of the standard library. Everything it says names it a
rehearsal: nobody shall take it for a model.
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from flowforge.twin.model import history
from flowforge.twin.model.asked import Asked
from flowforge.twin.model.history import Done
from flowforge.twin.model.script import EDIT, Call, Turn

LABEL = "This is a rehearsal: no model reads this, a few fixed rules answer."
_LIST, _CHANGES = "ls -a", "git status --short | head -n 20"
_PYTEST, _MAKE = "python3 -m pytest -q 2>&1 | tail -n 60", "make test 2>&1 | tail -n 60"
_SHOWN = 40
_FAILED = re.compile(r"\b[1-9]\d* (failed|error)|\bFAILED\b|Traceback|No module named|\*\*\* \[")
_PASSED = re.compile(r"\b\d+ passed|^OK\b", re.MULTILINE)
_NONE = re.compile(r"^Ran 0 tests\b|\bno tests ran\b", re.MULTILINE)
_MISSING = re.compile(r"NameError: name '(\w+)' is not defined")
_PLACES = re.compile(r"""^([\w./-]+\.py):\d+: NameError|File "([^"]+\.py)", line \d+""", re.M)
_IMPORT = re.compile(r"^(\d+):(import |from )(\w*)", re.MULTILINE)


@dataclass(frozen=True)
class _Seen:
    """What is known of the workspace."""

    prompt: str
    tools: frozenset[str]
    done: tuple[Done, ...]

    def output(self, command: str) -> str | None:
        """The last output of a command; `None` when it was not run."""
        return next((one.output for one in reversed(self.done) if one.command == command), None)

    @property
    def files(self) -> list[str]:
        """Names in the workspace."""
        lines = (self.output(_LIST) or "").splitlines()
        return [line for line in map(str.strip, lines) if line not in ("", ".", "..", ".git")]

    @property
    def edits(self) -> list[Done]:
        """Changes that were tried."""
        return [one for one in self.done if one.name == EDIT]


def reply(asked: Asked) -> Turn:
    """The next reply of the rules."""
    names = frozenset(tool.name for tool in asked.tools)
    seen = _Seen(asked.prompt(), names, tuple(history.read(asked.messages)))
    if "bash" not in names:
        return Turn(text=f"{LABEL} The prompt has {len(seen.prompt):,} characters.")
    if not seen.done:
        return Turn(text=f"{LABEL} It looks around.", tools=(_bash(_LIST), _bash(_CHANGES)))
    for text, call in _steps(seen):
        return Turn(text=text, tools=(call,))
    return Turn(text=_summary(seen))


def _steps(seen: _Seen) -> Iterator[tuple[str, Call]]:
    """What remains to be done; only the first is done now."""
    command = _test_command(seen)
    if command and seen.output(command) is None:
        yield "It runs the tests.", _bash(command)
    repair = _repair(seen, seen.output(command) if command else None)
    if repair and not seen.edits:
        yield repair
    if _repaired(seen):
        if command and seen.done[-1].name == EDIT:
            yield "It runs the tests again.", _bash(command)
        return
    if not any(one.name == EDIT and one.command == "create" for one in seen.done):
        note = _notes(seen, command)
        if EDIT in seen.tools:
            made = {"command": "create", "path": _notes_path(seen), "file_text": note}
            yield "It writes down what it saw.", Call(name=EDIT, input=made)


def _repair(seen: _Seen, tests: str | None) -> tuple[str, Call] | None:
    """Add the import of a module of the standard library that a test misses."""
    missing = _MISSING.search(tests or "")
    if not missing or missing[1] not in sys.stdlib_module_names or EDIT not in seen.tools:
        return None
    places = [one[0] or one[1] for one in _PLACES.findall((tests or "")[: missing.end() + 200])]
    if not places:
        return None
    look = f"grep -nE '^(import|from) ' {shlex.quote(places[-1])}"
    imports = seen.output(look)
    if imports is None:
        return f"A test misses the module {missing[1]}. It looks at the imports.", _bash(look)
    added = {
        "command": "insert",
        "path": places[-1],
        "insert_line": _line_for_import(imports),
        "insert_text": f"import {missing[1]}\n",
    }
    return f"It adds the import of {missing[1]}.", Call.model_validate(
        {"name": EDIT, "input": added}
    )


def _line_for_import(imports: str) -> int:
    """After which line an import goes: before the first, but after those of the future."""
    line = 0
    for number, _, module in _IMPORT.findall(imports):
        if module != "__future__":
            return int(number) - 1
        line = int(number)
    return line


def _repaired(seen: _Seen) -> bool:
    return any(one.command == "insert" and not one.failed for one in seen.edits)


def _test_command(seen: _Seen) -> str | None:
    names = seen.files
    folder = next((name for name in ("tests", "test") if name in names), ".")
    tested = folder != "." or any(
        name in ("pytest.ini", "conftest.py") or re.fullmatch(r"test_.*\.py|.*_test\.py", name)
        for name in names
    )
    if tested and "No module named pytest" not in (seen.output(_PYTEST) or ""):
        return _PYTEST
    if tested:
        return f"python3 -m unittest discover -t . -s {folder} 2>&1 | tail -n 60"
    return _MAKE if "Makefile" in names else None


def _notes_path(seen: _Seen) -> str:
    return "REHEARSAL-NOTES.md" if "NOTES.md" in seen.files else "NOTES.md"


def _notes(seen: _Seen, command: str | None) -> str:
    request = seen.prompt.strip().splitlines() or [""]
    files = seen.files[:_SHOWN]
    lines = ["# Notes of a rehearsal", "", LABEL, "", f"Asked: {request[0][:200]}", "", "Files:"]
    lines += [f"- {name}" for name in files] or ["- none"]
    if command:
        lines += ["", f"`{command}` said:", "", "```"]
        lines += [*(seen.output(command) or "").splitlines()[-_SHOWN:], "```"]
    return "\n".join(lines) + "\n"


def _summary(seen: _Seen) -> str:
    command = _test_command(seen)
    said = [LABEL]
    if command:
        said.append(f"The tests {_state(seen.output(command) or '')} (`{command}`).")
    else:
        said.append("It found no tests.")
    if _repaired(seen):
        said.append(f"It added an import: {seen.edits[0].input.get('path')}.")
    elif seen.edits and not seen.edits[-1].failed:
        said.append(f"It wrote {_notes_path(seen)} and changed nothing else.")
    else:
        said.append("It changed nothing.")
    return " ".join(said)


def _state(output: str) -> str:
    if _FAILED.search(output):
        return "fail"
    if _NONE.search(output):
        return "were not found: none ran"
    return "pass" if _PASSED.search(output) else "ended in a way the rules do not understand"


def _bash(command: str) -> Call:
    return Call(name="bash", input={"command": command})
