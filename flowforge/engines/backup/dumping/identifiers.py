"""Names of tables and columns as SQL writes them, taken apart and put together."""

from __future__ import annotations

import re

_PART = re.compile(r'"((?:[^"]|"")*)"|([^\s".,()]+)')
_SIMPLE = re.compile(r"[a-z_][a-z0-9_]*")


def identifier_parts(text: str) -> tuple[str, ...]:
    """The unquoted parts of a qualified identifier or of a column list."""
    return tuple(
        quoted.replace('""', '"') if quoted or not bare else bare
        for quoted, bare in _PART.findall(text)
    )


def canonical(*parts: str) -> str:
    """An identifier quoted only where it needs to be, keywords or not.

    Versions of PostgreSQL differ in what they call a keyword; names must compare equal anyway.
    """
    return ".".join(
        part if _SIMPLE.fullmatch(part) else '"' + part.replace('"', '""') + '"' for part in parts
    )


def quoted(*parts: str) -> str:
    """A qualified identifier as SQL always reads it, keywords and odd characters included."""
    return ".".join('"' + part.replace('"', '""') + '"' for part in parts)
