"""Give columns of a restored database other values before anybody may see it.

No row is left as it was: heirs and partitions are masked with their table, triggers that might
write old values elsewhere do not fire, materialized views are filled anew, and the tables are
rewritten, so that not even dead row versions remain. What statistics remember of the old values
goes as well.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, LiteralString

import psycopg
from psycopg.sql import SQL, Composed, Identifier

from flowforge.engines.backup.dumping.dumptext import TOKEN
from flowforge.engines.backup.dumping.identifiers import identifier_parts
from flowforge.engines.backup.restoring import tablenames
from flowforge.engines.backup.steps import reached
from flowforge.engines.postgres import connection
from flowforge.errors import Refused
from flowforge.rules.addresses import PostgresAddress
from flowforge.rules.backups import Manifest
from flowforge.rules.masks import Mask, MaskedTable

_FAMILY: LiteralString = """
WITH RECURSIVE family AS (
  SELECT %s::regclass::oid AS oid
  UNION SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN family f ON i.inhparent = f.oid
)
"""
_MEMBERS = _FAMILY + (
    "SELECT n.nspname, c.relname, c.relkind = 'r' FROM pg_catalog.pg_class c"
    "  JOIN family USING (oid) JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
    " WHERE c.relkind IN ('r', 'p')"
)
_KEYS = _FAMILY + (
    "SELECT a.attname FROM pg_catalog.pg_constraint c, pg_catalog.pg_attribute a"
    " WHERE (c.contype = 'p' AND c.conrelid IN (SELECT oid FROM family)"
    "        AND a.attrelid = c.conrelid AND a.attnum = ANY (c.conkey))"
    "    OR (c.contype = 'f' AND c.confrelid IN (SELECT oid FROM family)"
    "        AND a.attrelid = c.confrelid AND a.attnum = ANY (c.confkey))"
)
_RULES = _FAMILY + (
    "SELECT rulename FROM pg_catalog.pg_rewrite"
    " WHERE ev_class IN (SELECT oid FROM family) AND ev_type = '2'"
)
_TRIGGERS = _FAMILY + (
    "SELECT n.nspname, c.relname, t.tgname, t.tgenabled::text FROM pg_catalog.pg_trigger t"
    "  JOIN family ON family.oid = t.tgrelid JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid"
    "  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
    " WHERE NOT t.tgisinternal AND t.tgenabled <> 'D'"
)
# Created in the order in which one may need another.
_VIEWS = (
    "SELECT n.nspname, c.relname FROM pg_catalog.pg_class c"
    "  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
    " WHERE c.relkind = 'm' AND c.relispopulated ORDER BY c.oid"
)
_FIRES: Mapping[str, LiteralString] = {
    "O": "ENABLE TRIGGER",
    "R": "ENABLE REPLICA TRIGGER",
    "A": "ENABLE ALWAYS TRIGGER",
}
_REMEMBERED = ("pg_statistic", "pg_statistic_ext_data")


def check(manifest: Manifest, masks: Sequence[Mask]) -> tuple[Mask, ...]:
    """The masks with their tables by the names of the manifest.

    Raises:
        Refused: A table or column is not in the copy, is generated, is named twice, or what shall
            be in it is not one expression.
    """
    found: dict[tuple[str, str], Mask] = {}
    stored = {table.name: set(identifier_parts(table.columns)) for table in manifest.tables}
    for mask in masks:
        table = tablenames.choose(manifest, mask.table)
        columns = tablenames.columns_of(manifest, table)
        if mask.column not in columns:
            raise Refused(
                f"{table} has no column {mask.column!r}.",
                hint=f"It has {', '.join(sorted(columns))}.",
            )
        if mask.column not in stored.get(table, columns):
            raise Refused(
                f"{mask.column} of {table} is generated from other columns.",
                hint="Mask the columns it is generated from; it follows them.",
            )
        if (table, mask.column) in found:
            raise Refused(f"{mask.column} of {table} is masked twice.", hint="Give one mask.")
        _check_expression(mask)
        found[table, mask.column] = mask.model_copy(update={"table": table})
    return tuple(found.values())


def _check_expression(mask: Mask) -> None:
    """Make sure that a text stays inside the parentheses that will be put around it."""
    text, position, depth = mask.expression.encode() + b"\n", 0, 0
    while position < len(text):
        token = TOKEN.match(text, position)
        kind = token.lastgroup if token else "partial"
        said = token[0] if token else b""
        depth += (kind == "open") - (kind == "close")
        comment = (kind == "skip" and said.strip()) or (kind == "other" and b"/*" in said)
        if kind in ("partial", "end", "dollar") or depth < 0 or comment:
            depth = -1
            break
        position = token.end() if token else len(text)
    if depth != 0 or not mask.expression.strip():
        raise Refused(
            f"The mask of {mask.column} is not one SQL expression.",
            hint="Give one expression in plain quotes, without comments or semicolons.",
        )


def apply(
    address: PostgresAddress, database: str, masks: Sequence[Mask]
) -> tuple[MaskedTable, ...]:
    """Mask a restored database that nobody else may enter yet.

    Args:
        address: The server.
        database: The side database.
        masks: As `check` returned them.

    Raises:
        Refused: A column is a key or has a rule, or the server refused an expression.
    """
    by_table: dict[str, list[Mask]] = defaultdict(list)
    for mask in masks:
        by_table[mask.table].append(mask)
    # With row security on, rows the role may not see would be left as they are, in silence.
    settings = {"row_security": "off"}
    with connection.connect(address, database, settings=settings) as session:
        masked = tuple(_mask(session, table, every) for table, every in by_table.items())
        for view in session.execute(_VIEWS).fetchall():
            session.execute(SQL("REFRESH MATERIALIZED VIEW {}").format(Identifier(*view)))
        for table in by_table:
            _rewrite(session, table)
        for catalogue in _REMEMBERED:
            name = Identifier("pg_catalog", catalogue)
            session.execute(SQL("VACUUM (FULL) {}").format(name))
    reached("mask")
    return masked


def _mask(session: psycopg.Connection[Any], table: str, masks: Sequence[Mask]) -> MaskedTable:
    name = Identifier(*identifier_parts(table))
    on = (name.as_string(session),)
    _refuse_keys_and_rules(session, table, on, masks)
    triggers = session.execute(_TRIGGERS, on).fetchall()
    columns = [
        SQL("{} = ({})").format(Identifier(mask.column), Composed([_as_written(mask.expression)]))
        for mask in masks
    ]
    try:
        with session.transaction():
            for schema, relation, trigger, _ in triggers:
                session.execute(_alter(schema, relation, "DISABLE TRIGGER", trigger))
            # Heirs and partitions with it: their rows are read through the table as well.
            changed = session.execute(
                SQL("UPDATE {} SET {}").format(name, SQL(", ").join(columns))
            ).rowcount
            for schema, relation, trigger, fires in triggers:
                session.execute(_alter(schema, relation, _FIRES[fires], trigger))
    except psycopg.OperationalError:
        raise
    except psycopg.Error as error:
        raise _refused(table, error) from error
    return MaskedTable(table=table, columns=tuple(mask.column for mask in masks), rows=changed)


def _as_written(expression: str) -> SQL:
    # Checked by `_check_expression`; braces are doubled because SQL() reads them as its own.
    return SQL(expression.replace("{", "{{").replace("}", "}}"))


def _refuse_keys_and_rules(
    session: psycopg.Connection[Any], table: str, on: tuple[str], masks: Sequence[Mask]
) -> None:
    keys = {column for (column,) in session.execute(_KEYS, on).fetchall()}
    for mask in masks:
        if mask.column in keys:
            raise Refused(
                f"{mask.column} of {table} is a key: other rows are found by it.",
                hint="Mask the columns that say who or what a row is about, not its key.",
            )
    if rule := session.execute(_RULES, on).fetchone():
        raise Refused(
            f"The rule {rule[0]} rewrites updates of {table}: what a mask would do is not sure.",
            hint="Restore without this mask where only those go who may see the rows.",
        )


def _rewrite(session: psycopg.Connection[Any], table: str) -> None:
    """Write a table anew, so that nothing of the rows it held remains in its files."""
    on = (Identifier(*identifier_parts(table)).as_string(session),)
    for schema, relation, holds_rows in session.execute(_MEMBERS, on).fetchall():
        if holds_rows:
            session.execute(SQL("VACUUM (FULL) {}").format(Identifier(schema, relation)))


def _alter(schema: str, relation: str, what: LiteralString, trigger: str) -> Composed:
    table = Identifier(schema, relation)
    return SQL("ALTER TABLE ONLY {} {} {}").format(table, SQL(what), Identifier(trigger))


def _refused(table: str, error: psycopg.Error) -> Refused:
    # Class 42 speaks of the expression. What else is said may quote a row.
    of_expression = (error.sqlstate or "").startswith("42")
    said = error.diag.message_primary if of_expression else type(error).__name__
    about = error.diag.constraint_name or error.diag.column_name
    return Refused(
        f"{table} cannot be masked: {said}{f' ({about})' if about else ''}.",
        hint="Change the mask's expression and plan again.",
    )
