"""Small modules, short functions, and no test that asserts nothing."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CODE = ("flows", "tasks", "blocks", "work_pools", "flowforge")
MODULE_LINES = 300
FLOW_LINES = 120
FUNCTION_LINES = 40

EXCEPTIONS: dict[str, str] = {}
"""What may be longer, as `path` or `path:function`, and why."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


def long_parts(root: Path, folders: tuple[str, ...] = CODE) -> list[str]:
    """Modules and functions that are too long to read at one go."""
    found = []
    for path in sorted(p for folder in folders for p in (root / folder).rglob("*.py")):
        name, text = path.relative_to(root).as_posix(), path.read_text()
        limit = FLOW_LINES if name.startswith("flows/") else MODULE_LINES
        if text.count("\n") > limit and name not in EXCEPTIONS:
            found.append(f"{name}: {text.count(chr(10))} lines")
        for function in functions_of(ast.parse(text)):
            lines = count_lines(function)
            if lines > FUNCTION_LINES and f"{name}:{function.name}" not in EXCEPTIONS:
                found.append(f"{name}:{function.name}: {lines} lines")
    return found


def functions_of(tree: ast.AST) -> Iterator[Function]:
    for node in ast.walk(tree):
        if isinstance(node, Function):
            yield node


def count_lines(function: Function) -> int:
    """The lines of a function without its docstring."""
    documented = function.body[0] if ast.get_docstring(function, clean=False) else None
    prose = (documented.end_lineno or 0) - documented.lineno + 1 if documented else 0
    return (function.end_lineno or 0) - function.lineno + 1 - prose


def silent_tests(text: str) -> list[str]:
    """Tests in which nothing can fail on purpose."""
    functions = {function.name: function for function in functions_of(ast.parse(text))}
    return sorted(
        name
        for name, function in functions.items()
        if name.startswith("test_") and not _asserts(function, functions, set())
    )


def _asserts(function: Function, known: dict[str, Function], seen: set[str]) -> bool:
    seen.add(function.name)
    for node in ast.walk(function):
        if isinstance(node, ast.Assert):
            return True
        if not isinstance(node, ast.Call):
            continue
        called = node.func.attr if isinstance(node.func, ast.Attribute) else ""
        called = node.func.id if isinstance(node.func, ast.Name) else called
        if called in ("raises", "warns", "fail", "eventually") or called.startswith("assert_"):
            return True
        if called in known and called not in seen and _asserts(known[called], known, seen):
            return True
    return False


def test_modules_and_functions_are_short() -> None:
    found = long_parts(ROOT)
    assert not found, "\n".join(found)


def test_every_test_asserts_something() -> None:
    tests = sorted((ROOT / "tests").rglob("test_*.py"))
    silent = [f"{path.name}:{name}" for path in tests for name in silent_tests(path.read_text())]
    assert len(tests) > 5
    assert not silent, "\n".join(silent)


def test_every_exception_is_still_needed() -> None:
    parts = {part.partition(":")[0] for part in EXCEPTIONS}
    assert [part for part in parts if not (ROOT / part).is_file()] == []


@pytest.mark.parametrize(
    ("path", "lines", "too_long"),
    [
        ("flowforge/a.py", MODULE_LINES, False),
        ("flowforge/a.py", MODULE_LINES + 1, True),
        ("flows/a.py", FLOW_LINES + 1, True),
    ],
)
def test_a_long_module_is_named(tmp_path: Path, path: str, lines: int, too_long: bool) -> None:
    (tmp_path / path).parent.mkdir()
    (tmp_path / path).write_text("x = 1\n" * lines)
    assert long_parts(tmp_path) == ([f"{path}: {lines} lines"] if too_long else [])


def test_a_long_function_is_named(tmp_path: Path) -> None:
    (tmp_path / "tasks").mkdir()
    prose = '    """' + "Words.\n" * 30 + '    """\n'
    short = "def short() -> None:\n" + prose + "    x = 1\n" * (FUNCTION_LINES - 1)
    long = "def long() -> None:\n" + "    x = 1\n" * FUNCTION_LINES
    (tmp_path / "tasks/a.py").write_text(short + long)
    assert long_parts(tmp_path) == [f"tasks/a.py:long: {FUNCTION_LINES + 1} lines"]


@pytest.mark.parametrize(
    ("body", "silent"),
    [
        ("assert True", False),
        ("run()", True),
        ("check_it()", False),
        ("with pytest.raises(ValueError): run()", False),
        ("assert_equal(1, 1)", False),
        ("pass", True),
    ],
)
def test_a_test_that_asserts_nothing_is_named(body: str, silent: bool) -> None:
    text = f"def check_it():\n    assert done\n\ndef test_one():\n    {body}\n"
    assert silent_tests(text) == (["test_one"] if silent else [])
