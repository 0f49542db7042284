"""Rows are counted and hashed the same however they arrive, and however large they are."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from xxhash import xxh3_64_intdigest

from flowforge.engines.backup.dumping import dumptext, rowtext
from flowforge.engines.backup.dumping.dumptext import DumpScanner
from flowforge.engines.backup.dumping.rowtext import END_MARK, MODULUS, RowText

# Short values of what makes rows look like something else; a backslash in a value is doubled.
ROWS = st.lists(
    st.lists(
        st.sampled_from([b"x", b"\\\\", b".", b" ", b"\\n", b"\\N", b"\\\\. "]), max_size=8
    ).map(b"".join),
    max_size=6,
)
CUTS = st.lists(st.integers(0, 60), max_size=8)


def chunks(text: bytes, cuts: Sequence[int]) -> Iterator[bytes]:
    places = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    for start, end in itertools.pairwise(places):
        if start < end:
            yield text[start:end]


def digest(rows: Sequence[bytes]) -> int:
    return sum(map(xxh3_64_intdigest, rows)) % MODULUS


@given(rows=ROWS, cuts=CUTS, large=st.integers(4, 100))
@example(rows=[b"xxxx\\\\. x"], cuts=[5, 10], large=4)
def test_what_a_session_sends_is_cut_into_rows_and_its_end_is_known(
    rows: list[bytes], cuts: list[int], large: int
) -> None:
    text = b"".join(row + b"\n" for row in rows)
    read, given_back = RowText(), b""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rowtext, "LARGE_ROW_BYTES", large)
        for chunk in chunks(text + END_MARK + b"\n", cuts):
            assert not read.ended
            given_back += read.feed(chunk)
            assert read.inside_row or not given_back or given_back.endswith(b"\n")
    assert read.ended
    assert given_back == text
    assert (read.rows, read.raw_bytes, read.digest) == (len(rows), len(text), digest(rows))


@given(rows=ROWS, cuts=CUTS, large=st.integers(1, 100))
@example(rows=[b"xxxx\\\\.", b"y"], cuts=[36], large=4)
def test_rows_too_large_to_hold_are_read_in_parts(
    rows: list[bytes], cuts: list[int], large: int
) -> None:
    text = b"".join(row + b"\n" for row in rows)
    scanner = DumpScanner()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dumptext, "LARGE_ROW_BYTES", large)
        for chunk in chunks(
            b"COPY public.t (v) FROM stdin;\n" + text + b"\\.\n\nSELECT 1;\n", cuts
        ):
            scanner.feed(chunk)
    (table,) = scanner.finish().tables
    assert (table.rows, table.raw_bytes) == (len(rows), len(text))
    assert table.digest == f"{digest(rows):016x}"


def test_rows_of_one_table_in_several_places_are_one_sum() -> None:
    scanner = DumpScanner()
    scanner.feed(
        b"COPY public.t (v) FROM stdin;\na\n\\.\nCOPY public.t (v) FROM stdin;\nb\nc\n\\.\n"
    )
    (table,) = scanner.finish().tables
    assert (table.rows, table.digest) == (3, f"{digest([b'c', b'a', b'b']):016x}")
