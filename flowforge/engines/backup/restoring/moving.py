"""Move tables of a side database into a schema of their own, and send that to the live database."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import psycopg
from psycopg.sql import SQL, Composed, Identifier, Literal

from flowforge.engines.backup.dumping import pgdump
from flowforge.engines.backup.dumping import survey as surveying
from flowforge.engines.backup.dumping.dumptext import DumpScanner
from flowforge.engines.backup.dumping.identifiers import canonical, identifier_parts
from flowforge.engines.backup.loading import psql
from flowforge.engines.backup.loading.destination import Destination
from flowforge.engines.postgres import connection
from flowforge.errors import Damaged, Refused
from flowforge.rules import table_restores
from flowforge.rules.backups import TableFacts
from flowforge.rules.table_restores import RestoredTable

_PARENTS = """
SELECT n.nspname, c.relname, c.relkind = 'p'
  FROM pg_catalog.pg_inherits i JOIN pg_catalog.pg_class c ON c.oid = i.inhparent
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE i.inhrelid = {}::regclass
"""
_SWITCHES = ("--no-owner", "--no-privileges", "--no-tablespaces", "--strict-names")


def gather(target: Destination, tables: Iterable[str], schema: str, mark: str) -> dict[str, str]:
    """Put tables into one schema and cut what ties them to tables that stay behind.

    Returns:
        The names of the manifest, by the names the tables have now.

    Raises:
        Refused: Two of them have one name.
    """
    parts = {table: identifier_parts(table) for table in sorted(tables)}
    if clashing := table_restores.same_names(parts.values()):
        raise Refused(
            f"Tables of several schemas are called {', '.join(clashing)}.",
            hint="Bring them back one after the other, each with a plan of its own.",
        )
    with (
        connection.connect(target.address, target.database) as session,
        session.transaction(),
    ):
        session.execute(SQL("CREATE SCHEMA {}").format(Identifier(schema)))
        session.execute(SQL("COMMENT ON SCHEMA {} IS {}").format(Identifier(schema), Literal(mark)))
        for name in parts.values():
            for statement in _detach(session, name, set(parts.values())):
                session.execute(statement)
        for name in parts.values():
            session.execute(
                SQL("ALTER TABLE {} SET SCHEMA {}").format(Identifier(*name), Identifier(schema))
            )
    return {canonical(schema, name[-1]): table for table, name in parts.items()}


def _detach(
    session: psycopg.Connection[Any], name: tuple[str, ...], together: set[tuple[str, ...]]
) -> list[Composed]:
    """What frees a table from parents that stay: a dump would attach it to the live ones."""
    child = Identifier(*name)
    rows = session.execute(SQL(_PARENTS).format(Literal(child.as_string(session)))).fetchall()
    return [
        SQL("ALTER TABLE {} DETACH PARTITION {}").format(Identifier(schema, table), child)
        if partitioned
        else SQL("ALTER TABLE {} NO INHERIT {}").format(child, Identifier(schema, table))
        for schema, table, partitioned in rows
        if (schema, table) not in together
    ]


def send(
    side: Destination, database: str, schema: str, gathered: Mapping[str, str]
) -> tuple[RestoredTable, ...]:
    """Write a schema of the side database into another one, in one transaction.

    Its rows are compared with the manifest as they go by; only then is the transaction ended.

    Raises:
        Damaged: They are not what was dumped; nothing was written.
        LoadFailed: The other database lacks something the tables need, a type for example.
    """
    with connection.connect(side.address, side.database) as session:
        seen = surveying.survey(session, side.address.name)
    money = {"lc_monetary": side.manifest.database.lc_monetary}
    seen = dataclasses.replace(seen, database=seen.database.model_copy(update=money))
    scanner = DumpScanner(seen.codec)
    restored: list[RestoredTable] = []

    def compared() -> Iterator[bytes]:
        for chunk in pgdump.stream_dump(
            side.installation,
            side.address,
            side.database,
            survey=seen,
            switches=(f"--schema={schema}", *_SWITCHES),
        ):
            scanner.feed(chunk)
            yield chunk
        restored.extend(_compare(side.manifest.tables, scanner.finish().tables, gathered))

    psql.run(
        compared(),
        side.manifest,
        side.installation,
        side.address,
        database,
        at_once=True,
    )
    return tuple(restored)


def _compare(
    expected: Iterable[TableFacts], seen: Iterable[TableFacts], gathered: Mapping[str, str]
) -> list[RestoredTable]:
    facts = {table.name: table for table in expected}
    held = {table.name: table for table in seen}
    restored = []
    for now, before in gathered.items():
        if before not in facts:
            continue  # a partitioned table holds no rows itself
        one, other = facts[before], held.get(now)
        if other is None or (one.columns, one.rows, one.digest) != (
            other.columns,
            other.rows,
            other.digest,
        ):
            raise Damaged(
                f"The restored rows of {before} are not what was dumped.",
                hint="Nothing was written. Choose another copy, and verify this one.",
                table=before,
            )
        restored.append(RestoredTable(name=before, restored_as=now, rows=one.rows))
    return restored
