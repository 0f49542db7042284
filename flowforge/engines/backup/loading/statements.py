"""The statements of a `pg_dump` text without rows, told apart as `psql` tells them apart.

Most of what comes after the rows builds indexes, each reading a whole table, and those of different
tables do not need one another. They are found here, so that a restore may build them side by side;
all the rest keeps its order.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from flowforge.engines.backup.dumping.dumptext import TOKEN
from flowforge.engines.backup.dumping.identifiers import canonical, identifier_parts
from flowforge.errors import Damaged

_NAME = rb"""(?:"[^"]*(?:""[^"]*)*"|[^\s".,()]+)"""
_BUILDS = (
    # `ON ONLY` makes the empty index of a partitioned table: nothing to build.
    re.compile(
        rb"CREATE (?:UNIQUE )?INDEX %(n)s ON (?P<table>%(n)s\.%(n)s) USING " % {b"n": _NAME}
    ),
    re.compile(
        rb"ALTER TABLE ONLY (?P<table>%(n)s\.%(n)s)\s+ADD CONSTRAINT %(n)s "
        rb"(?:PRIMARY KEY|UNIQUE|EXCLUDE)\b" % {b"n": _NAME}
    ),
)


@dataclass(frozen=True)
class Statement:
    """One statement."""

    text: bytes
    builds_on: str | None = None
    """The table it builds an index on, by the name it has in a manifest."""


def split(text: bytes, codec: str) -> list[Statement]:
    """Take a text apart.

    Raises:
        Damaged: It ends inside a statement.
    """
    return [Statement(found, _builds_on(found, codec)) for found in _statements(text)]


def _builds_on(text: bytes, codec: str) -> str | None:
    for pattern in _BUILDS:
        if found := pattern.match(text):
            return canonical(*identifier_parts(found["table"].decode(codec, "backslashreplace")))
    return None


def _statements(text: bytes) -> Iterator[bytes]:
    position, start, depth = 0, None, 0
    while position < len(text):
        found = TOKEN.match(text, position)
        if found is None or found.lastgroup == "partial":
            raise _broken()
        kind, end = found.lastgroup, found.end()
        if kind == "dollar":
            closing = text.find(found[0], end)
            if closing < 0:
                raise _broken()
            end = closing + len(found[0])
        if kind != "skip" and start is None:
            start = position
        depth += (kind == "open") - (kind == "close")
        position = end
        if kind == "end" and depth == 0:
            assert start is not None
            yield text[start:end]
            start = None
    if start is not None:
        raise _broken()


def _broken() -> Damaged:
    return Damaged(
        "The definitions of a copy end inside a statement.",
        hint="Do not use this copy; take another one.",
    )
