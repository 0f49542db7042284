"""A generated database: customers, orders, sensor readings and notes, of a wanted size."""

from __future__ import annotations

import re
from typing import Any

import psycopg

from flowforge.rules.addresses import PostgresAddress

_UNITS = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3}
_ROWS = 20_000

_SCHEMA = """
CREATE TABLE phrases (id int PRIMARY KEY, text text);
INSERT INTO phrases SELECT p, string_agg(
    left(translate(md5((hashint4(p * 31 + k) % 700)::text), '0123456789', 'etaoinshrd'), 2 + k),
    ' ')
  FROM generate_series(0, 19999) p, generate_series(1, 6) k GROUP BY p;
CREATE TABLE customers (id int PRIMARY KEY, name text, email text,
  joined timestamptz, settings jsonb);
CREATE TABLE orders (id int PRIMARY KEY, customer int, placed timestamptz, total numeric(10, 2),
  state text, note text);
CREATE TABLE readings (id bigint PRIMARY KEY, sensor int, at timestamp, value float8);
CREATE TABLE notes (id int PRIMARY KEY, body text);
"""
_FILL = """
INSERT INTO customers SELECT i, initcap(left(text, 14)), 'c' || i || '@example.org',
  timestamptz '2024-01-01 00:00Z' + i * interval '91 seconds',
  jsonb_build_object('language', (array['en','de','fr','es'])[1 + i % 4], 'newsletter', i % 3 = 0,
    'limits', jsonb_build_array(i % 50, i % 7), 'comment', text)
  FROM generate_series({first}, {last}, 5) i JOIN phrases p ON p.id = abs(hashint4(i)) % 20000;
INSERT INTO orders SELECT i, abs(hashint4(i)) % 100000,
  timestamptz '2024-06-01 00:00Z' + i * interval '13 seconds',
  abs(hashint4(i + 1)) % 1000000 / 100.0,
  (array['new','paid','sent','returned'])[1 + abs(hashint4(i)) % 4], text
  FROM generate_series({first}, {last}) i JOIN phrases p ON p.id = abs(hashint4(i + 2)) % 20000;
INSERT INTO readings SELECT i, i % 64, timestamp '2025-01-01' + i * interval '1 second',
  20 + 5 * sin(i / 600.0) + (abs(hashint4(i::int)) % 1000) / 1000.0
  FROM generate_series({first} * 3::bigint, {last} * 3::bigint + 2) i;
INSERT INTO notes SELECT i, string_agg(text, '. ') FROM generate_series({first}, {last}, 10) i,
  generate_series(1, 20) k, phrases p
  WHERE p.id = abs(hashint4(i * 20 + k)) % 20000 GROUP BY i;
"""


def parse_size(text: str) -> int:
    """Read a size such as `200M` or `10G` into bytes.

    Raises:
        ValueError: It is not one.
    """
    found = re.fullmatch(r"(\d+)\s*([KMG]?)i?B?", text.strip().upper())
    if not found:
        raise ValueError(f"{text!r} is not a size; write it as 200M or 10G")
    return int(found[1]) * _UNITS[found[2]]


def make(address: PostgresAddress, name: str, size_bytes: int) -> tuple[int, int]:
    """Make and fill a database until it holds `size_bytes`; return its size and rows."""
    with connect(address, "postgres") as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
    with connect(address, name) as connection:
        connection.execute(_SCHEMA)
        first = held = 0
        while held < size_bytes:
            for statement in _FILL.split(";\n"):
                if statement.strip():
                    connection.execute(statement.format(first=first, last=first + _ROWS - 1))
            first += _ROWS
            row = connection.execute("SELECT pg_database_size(current_database())").fetchone()
            assert row is not None
            held = int(row[0])
        connection.execute("VACUUM ANALYZE")
        row = connection.execute(
            "SELECT (SELECT count(*) FROM customers) + (SELECT count(*) FROM orders)"
            " + (SELECT count(*) FROM readings) + (SELECT count(*) FROM notes)"
        ).fetchone()
        assert row is not None
        return held, int(row[0])


def connect(address: PostgresAddress, database: str) -> psycopg.Connection[tuple[Any, ...]]:
    """Open a connection that commits by itself."""
    return psycopg.connect(
        host=address.host,
        port=address.port,
        user=address.user,
        dbname=database,
        autocommit=True,
    )
