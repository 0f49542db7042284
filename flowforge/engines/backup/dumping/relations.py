"""Which rows a copy holds: the tables `pg_dump` would copy the data of, cut into pieces.

A large table is cut by ranges of heap pages, so that several sessions may read it at once; the
server has done that without scanning the whole table since PostgreSQL 14.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, LiteralString

import psycopg

from flowforge.engines.backup.dumping.identifiers import canonical, quoted

PIECE_BYTES = 64 * 1024 * 1024
_CUT_SINCE = 14

_NOT_OURS: LiteralString = """
       n.nspname !~ '^pg_(toast|temp|catalog)' AND n.nspname <> 'information_schema'
   AND c.relpersistence <> 't'
"""
# Rows of an extension's table are copied only when the extension asked for it, and only those.
_TABLES: LiteralString = f"""
SELECT c.oid::bigint, n.nspname, c.relname, c.relpersistence = 'u',
       pg_catalog.pg_table_size(c.oid),
       pg_catalog.pg_relation_size(c.oid) / pg_catalog.current_setting('block_size')::int,
       ARRAY(SELECT a.attname FROM pg_catalog.pg_attribute a
              WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
                AND a.attgenerated = '' ORDER BY a.attnum),
       config.condition
  FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN (SELECT unnest(extconfig) AS oid, unnest(extcondition) AS condition
               FROM pg_catalog.pg_extension) config ON config.oid = c.oid
 WHERE c.relkind = 'r' AND {_NOT_OURS}
   AND (config.oid IS NOT NULL
        OR NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
                        WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid
                          AND d.deptype = 'e'))
 ORDER BY 5 DESC, 2, 3
"""
_SEQUENCES: LiteralString = f"""
SELECT n.nspname, c.relname FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind = 'S' AND {_NOT_OURS}
   AND (EXISTS (SELECT FROM pg_catalog.pg_extension WHERE c.oid = ANY (extconfig))
        OR NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
                        WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid
                          AND d.deptype = 'e'))
 ORDER BY 1, 2
"""
_HASHED_BY_ENUM: LiteralString = """
SELECT EXISTS (SELECT FROM pg_catalog.pg_partitioned_table p
                 JOIN pg_catalog.pg_opclass o ON o.oid = ANY (p.partclass)
                 JOIN pg_catalog.pg_am a ON a.oid = o.opcmethod
                WHERE p.partstrat = 'h' AND a.amname = 'hash' AND o.opcname = 'enum_ops')
"""


@dataclass(frozen=True)
class Relation:
    """A table whose rows are copied."""

    oid: int
    schema: str
    table: str
    unlogged: bool
    size_bytes: int
    pages: int
    columns: tuple[str, ...]
    condition: str | None = None
    """What an extension wants to be copied of its own table: `WHERE ...`, or all when empty."""

    @property
    def name(self) -> str:
        """The name it has in a manifest."""
        return canonical(self.schema, self.table)

    @property
    def quoted(self) -> str:
        """Its qualified name as SQL."""
        return quoted(self.schema, self.table)


@dataclass(frozen=True)
class Piece:
    """Rows that one session reads at once: a whole table, or those on a range of its pages."""

    relation: Relation
    first_page: int | None = None
    end_page: int | None = None
    """The page behind the last one; `None` for all that follow."""

    def copy_out(self) -> str:
        """The statement that sends its rows."""
        relation = self.relation
        if self.first_page is None and not relation.condition:
            return f"COPY {relation.quoted}{_column_list(relation)} TO STDOUT;\n"
        columns = ", ".join(map(quoted, relation.columns))
        chosen = f"COPY (SELECT {columns} FROM ONLY {relation.quoted} {self._where()}) TO STDOUT"
        return f"{chosen};\n"

    def copy_in(self) -> str:
        """The statement that `pg_dump` would write before its rows."""
        return f"COPY {self.relation.quoted}{_column_list(self.relation)} FROM stdin;\n"

    def _where(self) -> str:
        if self.first_page is None:
            return self.relation.condition or ""
        end = "" if self.end_page is None else f" AND ctid < '({self.end_page},0)'"
        return f"WHERE ctid >= '({self.first_page},0)'{end}"


def list_relations(session: psycopg.Connection[Any]) -> list[Relation]:
    """Every table whose rows belong into a copy, the largest first."""
    rows = session.execute(_TABLES).fetchall()
    return [
        Relation(oid, schema, table, unlogged, size, pages, tuple(columns), condition)
        for oid, schema, table, unlogged, size, pages, columns, condition in rows
    ]


def are_loaded_through_roots(session: psycopg.Connection[Any]) -> bool:
    """Whether rows belong into other partitions elsewhere, so that the root must deal them out.

    The hash of an enum's value is that of a number every database gives it anew.
    """
    row = session.execute(_HASHED_BY_ENUM).fetchone()
    return bool(row and row[0])


def cut(relations: Sequence[Relation], major: int, sessions: int) -> list[Piece]:
    """Cut tables so large that one session would be at them when the others have ended.

    A table that is not cut is loaded with less work, so only those are that must be.
    """
    share = sum(relation.size_bytes for relation in relations) / (2 * max(1, sessions))
    piece_bytes = max(PIECE_BYTES, share / 2)
    pieces = []
    for relation in relations:
        wanted = math.ceil(relation.size_bytes / piece_bytes) if relation.size_bytes > share else 1
        parts = min(wanted, relation.pages)
        if (
            major < _CUT_SINCE
            or parts < 2
            or relation.condition is not None
            or not relation.columns
        ):
            pieces.append(Piece(relation))
            continue
        bounds = [relation.pages * n // parts for n in range(parts)]
        # The last range is open: pages added since then hold nothing the snapshot sees.
        ends = [*bounds[1:], None]
        pieces += [Piece(relation, *range_) for range_ in zip(bounds, ends, strict=True)]
    return pieces


def largest_row(session: psycopg.Connection[Any], relation: Relation) -> str:
    """Where a table's largest row lies, as its `ctid`; sizes are those stored."""
    sizes = " + ".join(f"coalesce(pg_column_size({quoted(c)}), 0)" for c in relation.columns)
    query = f"SELECT ctid::text FROM ONLY {relation.quoted} ORDER BY {sizes} DESC LIMIT 1"
    row = session.execute(query.encode()).fetchone()
    assert row is not None
    return str(row[0])


def read_sequences(session: psycopg.Connection[Any]) -> list[tuple[str, str, int, bool]]:
    """Where every sequence stands: schema, name, value, and whether that one was given out."""
    found = []
    for schema, name in session.execute(_SEQUENCES).fetchall():
        query = f"SELECT last_value, is_called FROM {quoted(schema, name)}"
        row = session.execute(query.encode()).fetchone()
        assert row is not None
        found.append((schema, name, *row))
    return found


def _column_list(relation: Relation) -> str:
    """` ("a", "b")`, or a blank where a table has no column to copy, as `pg_dump` writes it."""
    return f" ({', '.join(map(quoted, relation.columns))})" if relation.columns else " "
