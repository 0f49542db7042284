"""Which rows differ, when a table's digest says that some do.

Two passes over the stored copy and over the restored table, in memory that does not grow with
either. The first sums the rows' hashes in 65,536 buckets; the second keeps only rows of the few
buckets that differ. A row is named by its primary key, or where there is none by a prefix of its
hash: values are never shown.
"""

from __future__ import annotations

import array
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from psycopg.sql import SQL, Identifier, Literal
from xxhash import xxh3_128_intdigest

from flowforge.engines.backup.dumping import survey as surveying
from flowforge.engines.backup.dumping import tabletext
from flowforge.engines.backup.dumping.dumptext import DumpScanner, RowHook
from flowforge.engines.backup.dumping.identifiers import identifier_parts
from flowforge.engines.backup.loading import reading
from flowforge.engines.backup.stores.store import Store
from flowforge.engines.postgres import connection
from flowforge.rules.addresses import PostgresAddress
from flowforge.rules.backups import Manifest

MOST_ROWS_NAMED = 20
_BUCKETS = 1 << 16
_MOST_BUCKETS = 64
_KEY_COLUMNS = """
SELECT a.attname FROM pg_catalog.pg_index i
  JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)
 WHERE i.indrelid = {}::regclass AND i.indisprimary ORDER BY a.attnum
"""

_Rows = dict[str, Counter[bytes]]
_Pass = Callable[[RowHook], None]


def name_rows(
    store: Store,
    manifest: Manifest,
    address: PostgresAddress,
    database: str,
    tables: Sequence[str],
) -> tuple[str, ...]:
    """Name rows that are altered, missing, doubled or foreign in a restored database."""
    with connection.connect(address, database) as session:
        seen = surveying.as_dumped(session, address.name, manifest)
    listed = {table.name: table.columns for table in manifest.tables if table.name in set(tables)}

    def stored(hook: RowHook) -> None:
        _run(DumpScanner(seen.codec, hook), reading.text_of(store, manifest))

    def restored(hook: RowHook) -> None:
        text = tabletext.read_tables(address, database, listed, survey=seen)
        _run(DumpScanner(seen.codec, hook), text)

    wanted = set(tables)
    buckets = _differing_buckets(_sums(stored, wanted), _sums(restored, wanted))
    before, after = _rows_in(stored, buckets), _rows_in(restored, buckets)
    columns = {name: identifier_parts(of_table) for name, of_table in listed.items()}
    keys = _key_positions(address, database, columns)
    named: list[str] = []
    for table in tables:
        named += _explain(table, before[table], after[table], keys[table])
    return tuple(named[:MOST_ROWS_NAMED])


def _run(scanner: DumpScanner, text: Iterable[bytes]) -> None:
    for chunk in text:
        scanner.feed(chunk)


def _sums(one_pass: _Pass, tables: set[str]) -> dict[str, Sequence[int]]:
    sums: dict[str, array.array[int]] = {t: array.array("Q", bytes(8 * _BUCKETS)) for t in tables}

    def add(table: str, rows: list[bytes]) -> None:
        if table not in sums:
            return
        buckets = sums[table]
        for row in rows:
            digest = xxh3_128_intdigest(row)
            bucket = digest % _BUCKETS
            buckets[bucket] = (buckets[bucket] + (digest >> 64)) & 0xFFFF_FFFF_FFFF_FFFF

    one_pass(add)
    return dict(sums)


def _differing_buckets(
    before: Mapping[str, Sequence[int]], after: Mapping[str, Sequence[int]]
) -> dict[str, set[int]]:
    differing = {}
    for table, sums in before.items():
        pairs = enumerate(zip(sums, after[table], strict=True))
        found = [bucket for bucket, (one, other) in pairs if one != other]
        differing[table] = set(found[:_MOST_BUCKETS])
    return differing


def _rows_in(one_pass: _Pass, buckets: Mapping[str, set[int]]) -> _Rows:
    kept: _Rows = defaultdict(Counter)

    def keep(table: str, rows: list[bytes]) -> None:
        if wanted := buckets.get(table):
            kept[table].update(r for r in rows if xxh3_128_intdigest(r) % _BUCKETS in wanted)

    one_pass(keep)
    return kept


def _key_positions(
    address: PostgresAddress, database: str, columns: Mapping[str, tuple[str, ...]]
) -> dict[str, list[tuple[str, int]]]:
    """For every table its primary key: each column's name and its place in a row."""
    keys: dict[str, list[tuple[str, int]]] = {}
    with connection.connect(address, database) as session:
        for table, names in columns.items():
            quoted = Identifier(*identifier_parts(table)).as_string(session)
            rows = session.execute(SQL(_KEY_COLUMNS).format(Literal(quoted))).fetchall()
            key = [name for (name,) in rows]
            known = all(name in names for name in key)
            keys[table] = [(name, names.index(name)) for name in key] if known else []
    return keys


def _explain(
    table: str, before: Counter[bytes], after: Counter[bytes], key: Sequence[tuple[str, int]]
) -> Iterator[str]:
    lost, added = before - after, after - before
    lost_keys = {_name(row, key): row for row in lost}
    for row, times in added.items():
        name = _name(row, key)
        if name in lost_keys and key:
            del lost[lost_keys[name]]
            yield f"row {name} of {table}: altered in the copy"
        elif row in before:
            now, then = times + before[row], before[row]
            yield f"row {name} of {table}: {now} times in the copy, not {then}"
        else:
            yield f"row {name} of {table}: in the copy, not in the original"
    for row in lost:
        yield f"row {_name(row, key)} of {table}: missing from the copy"


def _name(row: bytes, key: Sequence[tuple[str, int]]) -> str:
    if not key:
        return f"#{xxh3_128_intdigest(row):032x}"[:13]
    values = row.split(b"\t")
    return ", ".join(f"{name}={values[place].decode('utf-8', 'replace')}" for name, place in key)
