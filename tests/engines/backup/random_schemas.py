"""Databases nobody thought of: names, types, forms of tables and values drawn at random."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from flowforge.engines.backup.dumping.identifiers import quoted

_ODD = st.text(st.sampled_from("ab \"'\\.,;:()$%{}\n\t`*/-é漢"), min_size=1, max_size=12)
_TEXTS = st.text(st.sampled_from("ab \"'\\.,;{}()N\n\t\r\b\x01é漢😀"), max_size=30)

TYPES: dict[str, SearchStrategy[str]] = {
    "integer": st.integers(-(2**31), 2**31 - 1).map(str),
    "bigint": st.integers(-(2**63), 2**63 - 1).map(str),
    "text": _TEXTS,
    "varchar(40)": _TEXTS,
    "bytea": st.binary(max_size=20).map(lambda value: "\\x" + value.hex()),
    "float8": st.floats().map(repr),
    "real": st.floats(width=32).map(repr),
    "numeric": st.just("NaN") | st.decimals(allow_infinity=False, allow_nan=False).map(str),
    "boolean": st.booleans().map(str),
    "date": st.dates().map(str),
    "timestamp": st.datetimes().map(str),
    "timestamptz": st.datetimes().map(lambda at: f"{at}+05:45"),
    "interval": st.timedeltas().map(lambda t: f"{t.days} days {t.seconds} s {t.microseconds} us"),
    "uuid": st.uuids().map(str),
    "inet": st.ip_addresses().map(str),
    "int4range": st.tuples(st.integers(-99, 0), st.integers(1, 99)).map(
        lambda r: f"[{r[0]},{r[1]}]"
    ),
    "text[]": st.lists(_TEXTS, max_size=3).map(
        lambda items: "{" + ",".join('"' + _escaped(item) + '"' for item in items) + "}"
    ),
    "jsonb": st.dictionaries(st.sampled_from("ab"), st.integers()).map(
        lambda d: str(d).replace("'", '"')
    ),
    "point": st.tuples(st.floats(), st.floats()).map(lambda p: f"({p[0]!r},{p[1]!r})"),
}


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


def literal(text: str | None) -> str:
    """A value as SQL, whatever is in it."""
    if text is None:
        return "NULL"
    return "E'" + text.replace("\\", "\\\\").replace("'", "''") + "'"


@dataclass
class Table:
    """A table to be made."""

    name: str
    columns: list[tuple[str, str]]
    rows: list[list[str | None]]
    form: str
    generated: bool
    dropped: bool
    comment: str | None = None
    statements: list[str] = field(default_factory=list)

    def sql(self) -> str:
        """The statements that make and fill it."""
        name = quoted("public", self.name)
        columns = [f"{quoted(column)} {kind}" for column, kind in self.columns]
        if self.dropped:
            columns.insert(0, '"to be dropped" text')
        if self.generated:
            columns.append("\"made of others\" int GENERATED ALWAYS AS (length('x')) STORED")
        if self.form == "partitioned":
            columns.append('"the key" int DEFAULT 1')
        unlogged = "UNLOGGED " if self.form == "unlogged" else ""
        parts = ' PARTITION BY LIST ("the key")' if self.form == "partitioned" else ""
        text = [f"CREATE {unlogged}TABLE {name} ({', '.join(columns)}){parts};"]
        if self.form == "partitioned":
            text.append(
                f"CREATE TABLE {quoted('public', self.name[:20] + ' p')} PARTITION OF {name}"
                " DEFAULT;"
            )
        if self.form == "inherited":
            text.append(
                f"CREATE TABLE {quoted('public', self.name[:20] + ' c')} (extra int)"
                f" INHERITS ({name});"
            )
        if self.dropped:
            text.append(f'ALTER TABLE {name} DROP COLUMN "to be dropped";')
        text += [self._insert(name, row) for row in self.rows]
        if self.comment is not None:
            text.append(f"COMMENT ON TABLE {name} IS {literal(self.comment)};")
        return "\n".join([*text, *self.statements])

    def _insert(self, name: str, row: Sequence[str | None]) -> str:
        if not self.columns:
            return f"INSERT INTO {name} DEFAULT VALUES;"
        into = ", ".join(quoted(column) for column, _ in self.columns)
        return f"INSERT INTO {name} ({into}) VALUES ({', '.join(map(literal, row))});"


@st.composite
def tables(draw: DrawFn) -> Table:
    """A table of any form, with rows."""
    names = draw(st.lists(_ODD, max_size=5, unique=True))
    kinds = [draw(st.sampled_from(sorted(TYPES))) for _ in names]
    row = st.tuples(*(st.none() | TYPES[kind] for kind in kinds)).map(list)
    form = st.sampled_from(["plain", "unlogged", "partitioned", "inherited"])
    return Table(
        name=draw(_ODD),
        columns=list(zip(names, kinds, strict=True)),
        rows=draw(st.lists(row, max_size=8)),
        form=draw(form),
        generated=draw(st.booleans()),
        dropped=draw(st.booleans()),
        comment=draw(st.none() | _TEXTS),
    )


@st.composite
def schemas(draw: DrawFn) -> str:
    """The SQL of a whole database."""
    made = draw(st.lists(tables(), min_size=1, max_size=8, unique_by=lambda table: table.name))
    for number, table in enumerate(made):
        table.name = f"{number}{table.name}"
    sequence = draw(_ODD)
    value = draw(st.integers(1, 2**63 - 1))
    called = draw(st.booleans())
    return "\n".join(
        [
            *(table.sql() for table in made),
            f"CREATE SEQUENCE {quoted('public', 's' + sequence)};",
            f"SELECT setval({literal(quoted('public', 's' + sequence))}, {value}, {called});",
        ]
    )
