"""The scanner reads the same facts however the text is cut into chunks."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowforge.engines.backup.dumping.dumptext import DumpFacts, DumpScanner
from flowforge.engines.backup.dumping.identifiers import canonical, identifier_parts
from flowforge.errors import Damaged

TEXT = rb"""--
-- PostgreSQL database dump
--

\restrict abc'def

SET standard_conforming_strings = on;
CREATE FUNCTION public.f() RETURNS text LANGUAGE sql AS $_$
COPY public.trap (id) FROM stdin;
1
\.
$_$;
COMMENT ON TABLE public.a IS 'it''s
COPY public.trap (id) FROM stdin;
';
COMMENT ON COLUMN public.a.b IS E'back\\slash'' COPY public.trap (id) FROM stdin;';
CREATE RULE r AS ON INSERT TO public.a DO ( SELECT pg_catalog.setval('public.x', 5, true);
 SELECT 1;
);
COPY public.a (b, "c d") FROM stdin;
1	x
2	\\.
\N	-- ' " $$ ;
\.


COPY public.none  FROM stdin;


\.

COPY public.empty (id) FROM stdin;
\.

SELECT pg_catalog.setval('public."it''s"', 42, false);
SELECT pg_catalog.lo_open('7', 131072);
SELECT pg_catalog.lowrite(0, '\x00ff');
SELECT pg_catalog.lo_close(0);
CREATE VIEW public.v AS SELECT 1 AS a$b, (2 - 1) AS "-- no";
-- PostgreSQL database dump complete
--

\unrestrict abc'def

"""


def scan(*chunks: bytes) -> DumpFacts:
    scanner = DumpScanner()
    for chunk in chunks:
        scanner.feed(chunk)
    return scanner.finish()


WHOLE = scan(TEXT)


def test_only_real_rows_are_counted() -> None:
    assert [(t.name, t.columns, t.rows) for t in WHOLE.tables] == [
        ("public.a", 'b, "c d"', 3),
        ("public.none", "", 2),
        ("public.empty", "id", 0),
    ]
    assert [(s.name, s.value, s.is_called) for s in WHOLE.sequences] == [
        ('public."it\'s"', 42, False)
    ]
    assert (WHOLE.large_objects.count, WHOLE.large_objects.total_bytes) == (1, 2)
    assert WHOLE.complete
    assert WHOLE.raw_bytes == len(TEXT)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64])
def test_chunks_of_any_size_say_the_same(size: int) -> None:
    assert scan(*(TEXT[at : at + size] for at in range(0, len(TEXT), size))) == WHOLE


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, len(TEXT)), max_size=8))
def test_cuts_anywhere_say_the_same(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(TEXT)]
    assert scan(*(TEXT[a:b] for a, b in itertools.pairwise(edges))) == WHOLE


def test_the_order_of_rows_does_not_matter_and_every_change_does() -> None:
    def digest(*rows: str) -> str:
        body = "".join(f"{row}\n" for row in rows)
        return scan(f"COPY public.t (a) FROM stdin;\n{body}\\.\n".encode()).tables[0].digest

    assert digest("a", "b", "c") == digest("c", "a", "b")
    assert len({digest("a", "b"), digest("a", "c"), digest("a", "b", "b"), digest("a")}) == 4


def test_a_text_that_stops_inside_rows_is_damaged() -> None:
    with pytest.raises(Damaged, match=r"inside the rows of public\.t"):
        scan(b"COPY public.t (a) FROM stdin;\n1\n2\n")


def test_a_text_without_its_last_line_is_not_complete() -> None:
    assert not scan(TEXT[: TEXT.index(b"-- PostgreSQL database dump complete")]).complete


@given(st.lists(st.text(min_size=1).filter(lambda t: "\0" not in t), min_size=1, max_size=3))
def test_any_identifier_can_be_read_back(parts: list[str]) -> None:
    assert identifier_parts(canonical(*parts)) == tuple(parts)
