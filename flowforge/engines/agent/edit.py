"""The edit tool: files looked at and changed by their text, with every other byte left alone."""

from __future__ import annotations

import posixpath
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field

from flowforge.engines.agent.tools_result import ToolInput, ToolResult
from flowforge.engines.sandboxes.sandbox import FileRefused, Sandbox
from flowforge.rules.jobs.output import clean, is_text

MOST_BYTES = 4 * 1024 * 1024
"""A larger file is not for reading; the shell has tools for it."""

_AROUND = 4
_LIST_SECONDS = 30.0
_NAMED_LINES = 10


class View(ToolInput):
    """Look at a file or a folder."""

    command: Literal["view"]
    path: str
    view_range: Annotated[list[int], Field(min_length=2, max_length=2)] | None = None


class Create(ToolInput):
    """Write a whole file."""

    command: Literal["create"]
    path: str
    file_text: str


class Replace(ToolInput):
    """Put a text in the place of another, which is there once."""

    command: Literal["str_replace"]
    path: str
    old_str: str = Field(min_length=1)
    new_str: str = ""


class Insert(ToolInput):
    """Put lines after a line; 0 is before the first."""

    command: Literal["insert"]
    path: str
    insert_line: int = Field(ge=0)
    insert_text: str


EditInput = Annotated[View | Create | Replace | Insert, Field(discriminator="command")]


class _No(Exception):
    """The file stays as it is; the words are for the model."""


class Editor:
    """The edit tool of one job in one sandbox.

    Args:
        sandbox: Where the files are.
        limit: The most characters of a file that are shown.
    """

    def __init__(self, sandbox: Sandbox, limit: int) -> None:
        self._sandbox = sandbox
        self._limit = limit

    async def run(self, given: View | Create | Replace | Insert) -> ToolResult:
        """Do what the model asks for.

        Raises:
            SandboxLost: The sandbox is gone.
        """
        try:
            path = self._inside(given.path)
            match given:
                case View():
                    return await self._view(path, given.view_range)
                case Create():
                    return await self._create(path, given.file_text)
                case Replace():
                    return await self._replace(path, given.old_str, given.new_str)
                case Insert():
                    return await self._insert(path, given.insert_line, given.insert_text)
        except _No as no:
            return ToolResult(str(no), is_error=True)
        except FileRefused as refused:
            return ToolResult(refused.message, is_error=True, changed=given.command != "view")

    async def _view(self, path: str, lines: list[int] | None) -> ToolResult:
        try:
            text = await self._read(path)
        except FileRefused as refused:
            return await self._list(path, refused)
        return ToolResult(self._number(text, lines))

    async def _create(self, path: str, text: str) -> ToolResult:
        await self._sandbox.write_file(path, text.encode())
        return ToolResult(f"{path} is written: {len(text.splitlines())} lines.", changed=True)

    async def _replace(self, path: str, old: str, new: str) -> ToolResult:
        text = await self._read(path)
        old, new = _with_ends_of(text, old), _with_ends_of(text, new)
        at, count = text.find(old), text.count(old)
        if count == 0:
            raise _No(f"`old_str` is not in {path}. It must be there to the letter; view the file.")
        if count > 1:
            raise _No(
                f"`old_str` is in {path} {count} times, in lines {_lines_of(text, old)}. Add lines "
                "before or after it until it is there once."
            )
        return await self._write(path, text[:at] + new + text[at + len(old) :], at, len(new))

    async def _insert(self, path: str, line: int, added: str) -> ToolResult:
        text = await self._read(path)
        lines = _lines(text)
        if line > len(lines):
            raise _No(f"`insert_line` is {line}, but {path} has {len(lines)} lines.")
        added = _with_ends_of(text, added if added.endswith("\n") else added + "\n")
        end = "\r\n" if added.endswith("\r\n") else "\n"
        if line and not lines[line - 1].endswith("\n"):  # the end it lacks goes before, not after
            lines[-1] += end
            added = added.removesuffix(end)
        before = "".join(lines[:line])
        return await self._write(
            path, before + added + "".join(lines[line:]), len(before), len(added)
        )

    async def _write(self, path: str, text: str, at: int, length: int) -> ToolResult:
        await self._sandbox.write_file(path, text.encode())
        first = text.count("\n", 0, at) + 1
        last = first + text.count("\n", at, at + length)
        here = self._number(text, [max(1, first - _AROUND), last + _AROUND])
        return ToolResult(f"{path} is changed. It reads now:\n{here}", changed=True)

    async def _read(self, path: str) -> str:
        content = await self._sandbox.read_file(path, max_bytes=MOST_BYTES)
        if not is_text(content):
            raise _No(f"{path} is not text ({len(content)} bytes). Use bash for it.")
        try:
            return content.decode()
        except UnicodeDecodeError:
            raise _No(f"{path} ends within a character. Use bash for it.") from None

    def _number(self, text: str, lines: list[int] | None) -> str:
        """Lines with their numbers, up to the limit."""
        every = _lines(text)
        first, last = lines or (1, -1)
        last = len(every) if last == -1 else min(last, len(every))
        if not every:
            return "(the file is empty)"
        if not 1 <= first <= last:
            raise _No(f"`view_range` is {lines}, but the file has {len(every)} lines.")
        shown, room = [], self._limit
        for number in range(first, last + 1):
            shown.append(f"{number:6}\t{clean(every[number - 1].encode()).rstrip(chr(10))}")
            room -= len(shown[-1]) + 1
            if room < 0:
                shown[-1] = shown[-1][:room]
                shown.append(f"… cut here; use `view_range` for lines {number} to {last} …")
                break
        note = ["(lines end with CRLF)"] if "\r\n" in text else []
        return "\n".join(shown + note)

    async def _list(self, path: str, refused: FileRefused) -> ToolResult:
        """What is in a folder, two levels deep; if it is none, why it could not be read."""
        # A folder is printed twice, which tells it from a file with any `find` there is.
        tests = ["-name", ".*", "-prune", "-o", "-type", "d", "-print0", "-print0", "-o", "-print0"]
        ran = await self._sandbox.exec(
            ["find", f"./{path}/", "-mindepth", "1", "-maxdepth", "2", *tests],
            timeout_seconds=_LIST_SECONDS,
        )
        if ran.status:
            return ToolResult(refused.message, is_error=True)
        found = [name for name in (ran.head + ran.tail).split(b"\0") if name]
        folders = {name for name, again in pairwise(found) if name == again}
        names = [
            clean(posixpath.normpath(name)).replace("\n", "␊") + "/" * (name in folders)
            for name in sorted(set(found))
        ]
        text = "\n".join(names)
        if len(text) > self._limit or ran.output_bytes > len(ran.head) + len(ran.tail):
            text = text[: self._limit] + "\n… cut here; view a folder in it …"
        return ToolResult(
            f"In {path}, two levels deep, without hidden files:\n{text or '(nothing)'}"
        )

    def _inside(self, path: str) -> str:
        """The path in the workspace.

        Raises:
            _No: It is another place.
        """
        home = self._sandbox.workspace.rstrip("/")
        inner = posixpath.normpath(path or ".")
        if inner == home or inner.startswith(home + "/"):
            inner = posixpath.relpath(inner, home)
        if "\0" in path or inner.startswith("/") or inner.split("/")[0] == "..":
            raise _No(f"{path!r} is not in the workspace, which is {home}.")
        return inner


def _lines(text: str) -> list[str]:
    """Lines with their ends, which are newlines and nothing else that Python takes for one."""
    lines = [line + "\n" for line in text.split("\n")]
    lines[-1] = lines[-1].removesuffix("\n")
    return lines if lines[-1] else lines[:-1]


def _with_ends_of(text: str, part: str) -> str:
    """A part the model wrote, with the ends of line that a file has throughout."""
    if "\r\n" in text and text.count("\n") == text.count("\r\n"):
        return part.replace("\r\n", "\n").replace("\n", "\r\n")
    return part


def _lines_of(text: str, part: str) -> str:
    found: list[str] = []
    at = text.find(part)
    while at >= 0 and len(found) < _NAMED_LINES:
        found.append(str(text.count("\n", 0, at) + 1))
        at = text.find(part, at + len(part))
    return ", ".join(found)
