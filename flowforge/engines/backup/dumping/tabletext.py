"""Read single tables again as a dump would write them, with their columns in a wanted order.

A table attached to its parent by ALTER TABLE ... INHERIT is dumped as a child, and a child made
anew has its parent's columns first: it holds the same rows, whose text is another one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from psycopg.sql import SQL, Composable, Identifier

from flowforge.engines.backup.dumping import pgdump
from flowforge.engines.backup.dumping.identifiers import identifier_parts
from flowforge.engines.backup.dumping.survey import Survey
from flowforge.engines.postgres import connection
from flowforge.rules.addresses import PostgresAddress


def read_tables(
    address: PostgresAddress,
    database: str,
    tables: Mapping[str, str],
    *,
    survey: Survey,
) -> Iterator[bytes]:
    """The data section of a dump that has these tables only.

    Args:
        address: The server.
        database: The database.
        tables: Their names, each with its columns as `COPY` lists them; empty for a table of none.
        survey: What was seen of it; the text is in its encoding, and writes money as it says.

    Raises:
        Unavailable: The server went away.
    """
    settings = pgdump.dump_settings(survey.database.lc_monetary)
    settings |= {"client_encoding": survey.database.encoding, "extra_float_digits": "3"}
    with (
        connection.explained(address, database),
        connection.connect(address, database, settings=settings) as session,
    ):
        for name, columns in tables.items():
            place = _place(name, columns)
            shown = f"{name} ({columns})" if columns else name
            yield f"COPY {shown} FROM stdin;\n".encode(survey.codec)
            with session.cursor().copy(SQL("COPY {} TO STDOUT").format(place)) as rows:
                yield from (bytes(chunk) for chunk in rows)
            yield b"\\.\n\n"


def _place(name: str, columns: str) -> Composable:
    table = Identifier(*identifier_parts(name))
    if not columns:
        return table
    listed = SQL(", ").join(Identifier(column) for column in identifier_parts(columns))
    return SQL("{} ({})").format(table, listed)
