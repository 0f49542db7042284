"""Tables of a copy by the names people type."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from flowforge.engines.backup.dumping.identifiers import canonical, identifier_parts
from flowforge.errors import Refused
from flowforge.rules.backups import Manifest

_MOST_SHOWN = 5


def tables_of(manifest: Manifest) -> list[str]:
    """Every table a copy can bring back by itself, partitioned ones included."""
    return sorted(_named(manifest.definitions, "table "))


def columns_of(manifest: Manifest, table: str) -> set[str]:
    """The columns of a table, unquoted."""
    held = (identifier_parts(name) for name in _named(manifest.definitions, "column "))
    return {parts[-1] for parts in held if canonical(*parts[:-1]) == table}


def choose(manifest: Manifest, typed: str) -> str:
    """The table somebody means: `orders`, `public.orders`, `Odd name` or `"a.b"."c"`.

    Raises:
        Refused: There is none of that name, or there are several.
    """
    known = {name: identifier_parts(name) for name in tables_of(manifest)}
    as_sql = tuple(part if '"' in typed else part.lower() for part in identifier_parts(typed))
    for found in (
        [name for name in known if name == typed],
        [name for name, parts in known.items() if typed in (".".join(parts), parts[-1])],
        [name for name, parts in known.items() if as_sql in (parts, parts[-1:])],
    ):
        if len(found) == 1:
            return found[0]
        if found:
            raise Refused(
                f"{typed!r} is the name of several tables.", hint=f"Say which: {_shown(found)}."
            )
    near = difflib.get_close_matches(typed, known, _MOST_SHOWN, 0.5) or [
        name for name, parts in known.items() if typed.rpartition(".")[2].lower() in parts[-1]
    ]
    hint = f"Did you mean {_shown(near)}?" if near else f"It holds {_shown(list(known))}."
    raise Refused(f"{manifest.name} holds no table {typed!r}.", hint=hint)


def _named(definitions: Iterable[str], kind: str) -> set[str]:
    """Names as manifests write them, of definitions whose keys quote them as the server does."""
    return {
        canonical(*identifier_parts(what.removeprefix(kind)))
        for what in definitions
        if what.startswith(kind)
    }


def _shown(names: list[str]) -> str:
    more = f" and {len(names) - _MOST_SHOWN} more" if len(names) > _MOST_SHOWN else ""
    return ", ".join(names[:_MOST_SHOWN]) + more
