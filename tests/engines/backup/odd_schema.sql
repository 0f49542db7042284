-- A database of everything a dump gets wrong when it is done by lines or by guesswork.
SET search_path TO public;
SET check_function_bodies TO off;

CREATE SCHEMA "odd schema";
CREATE SCHEMA "$(id)";
CREATE TYPE mood AS ENUM ('sad', 'o''k', 'very "happy"');
CREATE DOMAIN positive AS int CHECK (VALUE > 0);
CREATE TYPE span AS RANGE (subtype = float8);
CREATE TYPE pair AS (a int, b text);

CREATE TABLE customers (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  name text NOT NULL DEFAULT 'nobody',
  mood mood,
  doubled bigint GENERATED ALWAYS AS (id * 2) STORED,
  score positive,
  tags text[],
  spans span,
  during tstzrange,
  both_ pair,
  raw bytea,
  doc jsonb,
  amount numeric,
  cash money,
  at timestamptz,
  gap interval,
  bits bit varying,
  address inet,
  words tsvector
);
INSERT INTO customers (name, mood, score, tags, spans, during, both_, raw, doc, amount, cash, at, gap, bits, address, words)
SELECT 'n' || g || E'\ttab\nline\\backslash \\. end' || chr(1), 'o''k', g, ARRAY['a,b', NULL, '"q"', E'\\'],
       span(g, g + 1), tstzrange(now(), now() + interval '1 day'), (g, 'x"y')::pair, decode(lpad(to_hex(g), 8, '0'), 'hex'),
       jsonb_build_object('k', g, 'u', U&'\00E9\20AC'), g / 7.0, g, now() + g * interval '1 hour',
       interval '1 year 2 days', B'1011', '10.0.0.1/8', to_tsvector('simple', 'the quick ' || g)
  FROM generate_series(1, 300) g;
INSERT INTO customers (name, amount, at) VALUES ('', 'NaN', '-infinity'), (E'\\.', 'Infinity', '0044-03-15 BC'), ('\N', NULL, 'infinity');

CREATE TABLE "odd schema"."a""b
COPY public.customers (id) FROM stdin;
1
\." (x text, "co""l" int, "select" int, "new
line" text);
INSERT INTO "odd schema" ."a""b
COPY public.customers (id) FROM stdin;
1
\." VALUES ('x', 1, 2, 'y'), ('\.', NULL, NULL, E'\\.\n');
CREATE TABLE "$(id)"."; DROP TABLE x; --" (id int);
INSERT INTO "$(id)"."; DROP TABLE x; --" VALUES (1);
CREATE TABLE "ÄÖÜ€漢字ÄÖÜ€漢字ÄÖÜ€漢字ÄÖÜ€漢字ÄÖ" (id int PRIMARY KEY);
INSERT INTO "ÄÖÜ€漢字ÄÖÜ€漢字ÄÖÜ€漢字ÄÖÜ€漢字ÄÖ" SELECT generate_series(1, 3);
CREATE TABLE "user" ("order" int, "group" text);
INSERT INTO "user" VALUES (1, 'g');
CREATE TABLE "Upper.Dotted" (id int);
INSERT INTO "Upper.Dotted" VALUES (7);

CREATE TABLE empty (id int);
CREATE TABLE no_columns ();
INSERT INTO no_columns DEFAULT VALUES;
INSERT INTO no_columns DEFAULT VALUES;
CREATE TABLE doubles (v text);
INSERT INTO doubles VALUES ('same'), ('same'), ('same'), (NULL), ('');
CREATE UNLOGGED TABLE unlogged (id int);
INSERT INTO unlogged VALUES (1);

CREATE TABLE measured (day date, v int) PARTITION BY RANGE (day);
CREATE TABLE measured_2025 PARTITION OF measured FOR VALUES FROM ('2025-01-01') TO ('2026-01-01') PARTITION BY LIST (v);
CREATE TABLE measured_2025_1 PARTITION OF measured_2025 FOR VALUES IN (1, 2);
CREATE TABLE measured_2025_x PARTITION OF measured_2025 DEFAULT;
CREATE TABLE measured_rest PARTITION OF measured DEFAULT;
INSERT INTO measured SELECT date '2025-06-01' + g, g % 4 FROM generate_series(1, 400) g;
CREATE INDEX ON measured (v);

CREATE TABLE parent (id int PRIMARY KEY, note text);
CREATE TABLE child (extra text) INHERITS (parent);
INSERT INTO parent VALUES (1, 'p');
INSERT INTO child VALUES (2, 'c', 'e');

CREATE TABLE ring_a (id int PRIMARY KEY, b int);
CREATE TABLE ring_b (id int PRIMARY KEY, a int REFERENCES ring_a);
ALTER TABLE ring_a ADD FOREIGN KEY (b) REFERENCES ring_b DEFERRABLE INITIALLY DEFERRED;
BEGIN; INSERT INTO ring_a VALUES (1, 1); INSERT INTO ring_b VALUES (1, 1); COMMIT;

CREATE TABLE dropped (a int, b int, c text DEFAULT 'd');
INSERT INTO dropped VALUES (1, 2, 'three');
ALTER TABLE dropped DROP COLUMN b;

CREATE VIEW happy AS SELECT c.id, p.note FROM customers c JOIN parent p ON p.id = c.id;
CREATE MATERIALIZED VIEW counted AS SELECT count(*) AS n FROM customers;
CREATE INDEX by_name ON customers USING btree (lower(name)) WHERE score > 10;
CREATE STATISTICS pairs ON id, score FROM customers;

CREATE FUNCTION trap() RETURNS text LANGUAGE sql AS $body$
COPY public.customers (id) FROM stdin;
999
\.
SELECT pg_catalog.setval('public.lonely', 77, true);
SELECT 'done';
$body$;
CREATE FUNCTION trap2() RETURNS text LANGUAGE plpgsql AS '
BEGIN
COPY public.empty (id) FROM stdin;
\.
RETURN ''x'';
END';
COMMENT ON FUNCTION trap() IS 'COPY public.empty (id) FROM stdin;
1
\.
';
COMMENT ON TABLE customers IS E'it''s; "quoted" \\ $$ -- and /* more';
CREATE AGGREGATE total (int) (sfunc = int4pl, stype = int, initcond = '0');
CREATE SEQUENCE lonely START 10 INCREMENT 5 CYCLE MAXVALUE 1000;
CREATE RULE twice AS ON INSERT TO empty DO ALSO (INSERT INTO unlogged VALUES (1); SELECT pg_catalog.setval('public.lonely', 5, true));
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN new; END $$;
CREATE TRIGGER touched BEFORE UPDATE ON customers FOR EACH ROW EXECUTE FUNCTION touch();
ALTER TABLE customers DISABLE TRIGGER touched;
CREATE POLICY own ON parent USING (id > 0);

SELECT nextval('lonely'), nextval('lonely');
CREATE SEQUENCE untouched;
CREATE SEQUENCE "odd schema"."s'q""x" ;
SELECT setval('"odd schema"."s''q""x"', 42, false);

SELECT lo_from_bytea(4711, decode(repeat('00ff10', 700000), 'hex'));
SELECT lo_from_bytea(4712, '');
SELECT lo_from_bytea(4713, 'short');
COMMENT ON LARGE OBJECT 4713 IS 'COPY public.empty (id) FROM stdin;
';

DO $$ BEGIN
  CREATE ROLE zoe; CREATE ROLE adam; CREATE ROLE "Odd role";
EXCEPTION WHEN duplicate_object THEN NULL; END $$;
ALTER TABLE parent OWNER TO zoe;
GRANT SELECT, INSERT ON parent TO adam WITH GRANT OPTION;
GRANT SELECT (id) ON ring_a TO "Odd role";
REVOKE ALL ON ring_b FROM public;
GRANT ALL ON ring_b TO zoe, adam, "Odd role", public;
CREATE POLICY theirs ON parent FOR SELECT TO zoe, adam, "Odd role" USING (id > 1);
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO adam;
