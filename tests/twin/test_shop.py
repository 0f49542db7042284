from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from flowforge.engines.postgres import cluster, installations
from flowforge.twin import shop

Session = psycopg.Connection[tuple[object, ...]]


@pytest.fixture(scope="module")
def urls() -> Iterator[tuple[str, str]]:
    with cluster.scratch_server(installations.newest_server()) as server:
        entry = f"postgresql://postgres@/{{}}?host={server.host}&port={server.port}"
        with psycopg.connect(entry.format("postgres"), autocommit=True) as session:
            for name in ("one", "two"):
                session.execute(f"CREATE DATABASE {name}".encode())
        urls = (entry.format("one"), entry.format("two"))
        for url in urls:
            shop.load(url)
        yield urls


@pytest.fixture
def session(urls: tuple[str, str]) -> Iterator[Session]:
    with psycopg.connect(urls[0]) as opened:
        yield opened


def _value(session: Session, question: str) -> object:
    row = session.execute(question.encode()).fetchone()
    assert row is not None
    return row[0]


def _bytes_of_every_table(url: str) -> dict[str, bytes]:
    with psycopg.connect(url) as session:
        tables = session.execute(
            "SELECT oid::regclass::text FROM pg_class WHERE relkind = 'r'"
            " AND relnamespace::regnamespace::text IN ('public', 'warehouse') ORDER BY 1"
        ).fetchall()
        found = {}
        for (table,) in tables:
            with session.cursor().copy(f"COPY {table} TO STDOUT".encode()) as copy:
                found[str(table)] = b"".join(map(bytes, copy))
        return found


def test_it_has_some_eighty_thousand_rows(session: Session) -> None:
    assert 78_000 < shop.count_rows(session) < 85_000


def test_two_loads_are_the_same_to_the_byte(urls: tuple[str, str]) -> None:
    one, two = map(_bytes_of_every_table, urls)
    assert len(one) >= 12
    assert one == two


def test_it_is_not_loaded_twice(urls: tuple[str, str], session: Session) -> None:
    before = shop.count_rows(session)
    assert shop.load(urls[0]) == "there already"
    assert shop.count_rows(session) == before


@pytest.mark.parametrize(
    ("feature", "question"),
    [
        ("foreign keys", "SELECT count(*) FROM pg_constraint WHERE contype = 'f'"),
        ("enum", "SELECT count(*) FROM pg_enum"),
        ("identity", "SELECT count(*) FROM pg_attribute WHERE attidentity = 'a'"),
        ("generated", "SELECT count(*) FROM pg_attribute WHERE attgenerated = 's'"),
        ("partitions", "SELECT count(*) FROM pg_inherits"),
        ("views", "SELECT count(*) FROM order_totals"),
        ("materialized views", "SELECT count(*) FROM monthly_revenue"),
        ("large objects", "SELECT count(*) FROM pg_largeobject_metadata"),
        ("ranges", "SELECT count(*) FROM price_history WHERE upper_inf(valid)"),
        ("arrays", "SELECT count(*) FROM products WHERE 'sale' = ANY (tags)"),
        ("other alphabets", "SELECT count(*) FROM customers WHERE full_name LIKE '%花子%'"),
        ("triggers", "SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal"),
        ("a value that looks like the end", r"SELECT count(*) FROM orders WHERE note LIKE '\\.%'"),
    ],
)
def test_it_has_what_makes_backups_interesting(
    session: Session, feature: str, question: str
) -> None:
    assert int(str(_value(session, question))) > 0, feature


def test_one_table_is_empty(session: Session) -> None:
    assert _value(session, "SELECT count(*) FROM coupons") == 0
