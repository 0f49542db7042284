"""Whether a command is one of those that wait for a person.

Every simple command of a line counts, also behind `sudo` or in `bash -c '...'`, with options left
out or in. In doubt it is one. What a script or a program does that the command starts is not seen
here; the sandbox is what holds that.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase, translate

from flowforge.rules.jobs.commands import ANY, Unclear, simple_commands

_KEYWORDS = {"if", "then", "elif", "else", "while", "until", "do", "!", "{", "time", "coproc"}
_SHELLS = {"ash", "bash", "dash", "ksh", "sh", "zsh"}
# Programs that run what their arguments say, after options of their own.
_RUNNERS = {
    *("busybox", "builtin", "chroot", "command", "doas", "env", "exec", "find", "flock", "ionice"),
    *("nice", "nohup", "nsenter", "setsid", "script", "ssh", "stdbuf", "strace", "su", "sudo"),
    *("timeout", "trap", "unshare", "watch"),
}
_WITH_MORE = {"parallel", "xargs"}
_ASSIGNMENT = re.compile(r"^\w+(\[[^]]*\])?\+?=")
_TOKEN = re.compile(r"\*|\?|\[!?\]?[^]]*\]|.", re.DOTALL)


def matches(command: str, patterns: Sequence[str]) -> bool:
    """Whether any part of a command line fits, or could fit, one of the patterns.

    Args:
        command: What the model wants its shell to run.
        patterns: As in `git push*`; `*` is any text, `?` any character, `[ab]` one of some.
    """
    if any(fnmatchcase(command.strip(), pattern) for pattern in patterns):
        return True
    if not patterns:
        return False
    wanted = [_Pattern(pattern) for pattern in patterns]
    try:
        return any(pattern.fits(words) for words in _all(command) for pattern in wanted)
    except Unclear:
        return True


def _all(line: str) -> Iterator[list[str]]:
    """Every command of a line, and every one that is an argument of another."""
    for words in simple_commands(line):
        yield from _with_inner(words)


def _with_inner(words: list[str]) -> Iterator[list[str]]:
    start = 0
    while start < len(words) and (words[start] in _KEYWORDS or _ASSIGNMENT.match(words[start])):
        start += 1
    words = words[start:]
    if not words:
        return
    yield words
    program = words[0].rpartition("/")[2]
    if program in _SHELLS:
        yield from _all(_script(words))
    elif program == "eval":
        yield from _all(_known(" ".join(words[1:])))
    elif program in _RUNNERS or program in _WITH_MORE:
        more = [ANY] if program in _WITH_MORE else []
        for first in range(1, len(words)):
            yield from _with_inner(words[first:] + more)


def _script(words: list[str]) -> str:
    """What a shell is told to run.

    Raises:
        Unclear: It reads that from its input.
    """
    for at, word in enumerate(words[1:], 1):
        if re.fullmatch(r"-\w*c\w*", word):
            return _known(next((arg for arg in words[at + 1 :] if arg[:1] not in "-+"), ""))
        if ANY in word:
            raise Unclear("its arguments are not known")
        if word[:1] not in ("-", "+"):
            return ""  # a file, as any other program is one
    raise Unclear("its commands come from its input")


def _known(text: str) -> str:
    if ANY in text:
        raise Unclear("its commands are made while it runs")
    return text


class _Pattern:
    """A pattern, as the places in it that some words can reach."""

    def __init__(self, pattern: str) -> None:
        self._tokens = _TOKEN.findall(" ".join(pattern.split()))
        self._fits = [re.compile(translate(token)).match for token in self._tokens]

    def fits(self, words: list[str]) -> bool:
        """Whether the words can be what the pattern says; options may be left out."""
        programs = {words[0], words[0].rpartition("/")[2]}
        return any(self._reaches_end([program, *words[1:]]) for program in programs)

    def _reaches_end(self, words: list[str]) -> bool:
        reached = self._go(self._over({0}), words[0])
        after_option = False
        for word in words[1:]:
            gone = self._go(reached, f" {word}")
            is_option = word.startswith("-")
            reached = gone | reached if is_option or after_option else gone
            after_option = is_option
            if not reached:
                return False
        return len(self._tokens) in reached

    def _go(self, reached: set[int], text: str) -> set[int]:
        for character in text:
            if not reached:
                return reached
            if character == ANY:
                reached = set(range(min(reached), len(self._tokens) + 1))
                continue
            after = set()
            for place in reached:
                if place < len(self._tokens) and self._fits[place](character):
                    after.add(place if self._tokens[place] == "*" else place + 1)
            reached = self._over(after)
        return reached

    def _over(self, reached: set[int]) -> set[int]:
        """The same places, and those behind a `*` that stands for nothing."""
        todo = list(reached)
        while todo:
            place = todo.pop()
            if self._tokens[place : place + 1] == ["*"] and place + 1 not in reached:
                reached.add(place + 1)
                todo.append(place + 1)
        return reached
