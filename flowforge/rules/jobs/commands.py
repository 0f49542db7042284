"""A line for a shell, taken apart into its simple commands.

What only the shell will know, such as the value of a variable, is `ANY` in a word. A line that
cannot be taken apart with certainty is `Unclear`; nothing is guessed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

ANY = "\0"
"""Stands for any text, also none and also several words."""

_DEEPEST = 20
_CASE = re.compile(r"\bcase\b")
_NAME = re.compile(r"\$(\w+|[@*#?$!-])")
_BRACES = re.compile(r"\{\S*(,|\.\.)")
_HEREDOC = re.compile(r"<<(-?)[ \t]*((?:'[^'\n]*'|\"[^\"\n]*\"|\\.|[^\s;&|<>()'\"\\])+)")
_REDIRECTION = re.compile(r"&>>?|<<<|>>|>\||[<>]&|<>|[<>]")


class Unclear(ValueError):
    """What a line runs cannot be told from its text."""


def simple_commands(line: str) -> list[list[str]]:
    """The words of every simple command in a line, also of those inside substitutions.

    Raises:
        Unclear: A quote or a bracket is left open, or something is too deep or too odd.
    """
    return list(_Reader(line.replace(ANY, ""), 0).read())


class _Reader:
    """Goes over a line once, from the left to the right."""

    def __init__(self, text: str, depth: int) -> None:
        if depth > _DEEPEST:
            raise Unclear("it is too deep")
        self._text = text
        self._depth = depth
        self._at = 0
        self._found: list[list[str]] = []
        self._words: list[str] = []
        self._word: list[str] | None = None
        self._rest_is_any = False
        self._is_target = False
        self._redirects = False
        self._bodies: list[tuple[str, bool, bool]] = []

    def read(self) -> Iterator[list[str]]:
        """Every simple command; one in a substitution comes before the one around it."""
        while self._at < len(self._text):
            self._step()
        self._end_command()
        if self._bodies:
            raise Unclear("a here-document is left open")
        yield from self._found

    def _step(self) -> None:
        here = self._text[self._at]
        if redirection := _REDIRECTION.match(self._text, self._at):
            self._redirect(redirection[0])
        elif here in "\\'\"$`":
            self._quoted_or_expanded(here)
        elif here == "#" and self._word is None:
            end = self._text.find("\n", self._at)
            self._at = len(self._text) if end < 0 else end
        elif here in " \t":
            self._end_word()
            self._at += 1
        elif here in ";&|()\n":
            self._end_command()
            self._at += 1
            if here == "\n":
                self._skip_bodies()
        elif here in "*?[":
            self._add(ANY)
            self._at += 1
        elif here == "{" and _BRACES.match(self._text, self._at):
            self._add(ANY)
            self._rest_is_any = True
            self._at += 1
        else:
            self._add(here)
            self._at += 1

    def _quoted_or_expanded(self, here: str) -> None:
        if here == "\\":
            escaped = self._text[self._at + 1 : self._at + 2]
            if escaped != "\n":
                self._add(escaped)
            self._at += 2
        elif here == "'":
            end = self._find("'", self._at + 1)
            self._add(self._text[self._at + 1 : end])
            self._at = end + 1
        elif here == '"':
            self._at = self._double(self._at + 1)
        else:
            self._at = self._expand(self._at)

    def _double(self, at: int) -> int:
        """Read what is between double quotes; where it goes on after them."""
        self._add("")
        while at < len(self._text):
            here = self._text[at]
            if here == '"':
                return at + 1
            if here == "\\" and self._text[at + 1 : at + 2] in tuple('$`"\\\n'):
                self._add(self._text[at + 1].strip("\n"))
                at += 2
            elif here in "$`":
                at = self._expand(at)
            else:
                self._add(here)
                at += 1
        raise Unclear("a quote is left open")

    def _expand(self, at: int) -> int:
        """Read what the shell puts something in the place of; where it goes on after that."""
        following = self._text[at : at + 2]
        if following == "$(":
            end = self._closing(at + 2, "(", ")")
            self._look_into(self._text[at + 2 : end])
        elif following == "${":
            end = self._closing(at + 2, "{", "}")
            self._look_through(self._text[at + 2 : end])
        elif following == "$'":
            end = self._find("'", at + 2, escapes=True)
        elif self._text[at] == "`":
            end = self._find("`", at + 1, escapes=True)
            self._look_into(re.sub(r"\\([\\`$])", r"\1", self._text[at + 1 : end]))
        elif name := _NAME.match(self._text, at):
            end = name.end() - 1
        else:
            self._add("" if following == '$"' else "$")
            return at + 1
        self._add(ANY)
        return end + 1

    def _look_into(self, inner: str) -> None:
        """Take commands apart that run inside of this one."""
        if _CASE.search(inner):
            raise Unclear("brackets of `case` are not told from others")
        self._found += _Reader(inner, self._depth + 1).read()

    def _look_through(self, text: str) -> None:
        """Find what is expanded inside a text that is no command itself."""
        inner = _Reader(text, self._depth + 1)
        at = 0
        while at < len(text):
            if text[at] in "$`":
                at = inner._expand(at)
            else:
                at += 2 if text[at] == "\\" else 1
        self._found += inner._found

    def _redirect(self, sign: str) -> None:
        substitution = sign in "<>" and self._text[self._at + 1 : self._at + 2] == "("
        document = None if substitution else _HEREDOC.match(self._text, self._at)
        if substitution:
            end = self._closing(self._at + 2, "(", ")")
            self._look_into(self._text[self._at + 2 : end])
            self._add(ANY)
            self._at = end + 1
            return
        if self._word is not None and "".join(self._word).isdecimal():
            self._word = None  # the number of what is redirected
        self._end_word()
        self._redirects = True
        if document and sign != "<<<":
            quoted = any(sign in document[2] for sign in "'\"\\")
            name = re.sub(r"['\"\\]", "", document[2])
            self._bodies.append((name, quoted, bool(document[1])))
            self._at = document.end()
        else:
            self._is_target = True
            self._at += len(sign)

    def _skip_bodies(self) -> None:
        """Pass over the here-documents that begin here; they are no commands."""
        for name, quoted, tabs in self._bodies:
            start = self._at
            while True:
                if self._at >= len(self._text):
                    raise Unclear("a here-document is left open")
                line, _, _ = self._text[self._at :].partition("\n")
                begin = self._at
                self._at += len(line) + 1
                if (line.lstrip("\t") if tabs else line) == name:
                    break
            if not quoted:
                self._look_through(self._text[start:begin])
        self._bodies = []

    def _add(self, text: str) -> None:
        self._word = self._word or []
        if not self._rest_is_any:
            self._word.append(text)

    def _end_word(self) -> None:
        if self._word is not None and not self._is_target:
            self._words.append("".join(self._word))
        if self._word is not None:
            self._is_target = False
        self._word, self._rest_is_any = None, False

    def _end_command(self) -> None:
        self._end_word()
        if self._words or self._redirects:
            self._found.append(self._words or [""])
        self._words, self._redirects, self._is_target = [], False, False

    def _find(self, sign: str, at: int, *, escapes: bool = False) -> int:
        while at < len(self._text) and self._text[at] != sign:
            at += 2 if escapes and self._text[at] == "\\" else 1
        if at >= len(self._text):
            raise Unclear("a quote is left open")
        return at

    def _closing(self, at: int, opening: str, closing: str) -> int:
        """Where the bracket is closed that was opened before."""
        depth = 1
        while at < len(self._text):
            here = self._text[at]
            if here == "\\":
                at += 1
            elif here == "'" or here == "`":
                at = self._find(here, at + 1, escapes=here == "`")
            elif here == '"':
                at = self._find('"', at + 1, escapes=True)
            elif here in (opening, closing):
                depth += 1 if here == opening else -1
                if depth == 0:
                    return at
            at += 1
        raise Unclear("a bracket is left open")
