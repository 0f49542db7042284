-- Every type there is, with the values that texts get wrong.
SET timezone = 'Asia/Kathmandu';
CREATE TYPE mood AS ENUM ('sad', 'o''k', 'very "happy"', '', ' ');
ALTER TYPE mood ADD VALUE 'first' BEFORE 'sad';
CREATE TYPE "of ""odd"" name" AS ("a b" int, "c,d" text, mood mood);
CREATE DOMAIN positive AS int CONSTRAINT "more than 0" CHECK (VALUE > 0) DEFAULT 1;
CREATE DOMAIN several AS positive[] CHECK (array_length(VALUE, 1) < 9);
CREATE DOMAIN short AS varchar(3) COLLATE "C" NOT NULL;
CREATE TYPE moods AS RANGE (subtype = mood);
CREATE FUNCTION span_length(float8, float8) RETURNS float8 LANGUAGE sql IMMUTABLE STRICT AS 'SELECT $1 - $2';
CREATE TYPE span AS RANGE (subtype = float8, subtype_diff = span_length, multirange_type_name = spans);
CREATE TYPE own_int;
CREATE FUNCTION own_int_in(cstring) RETURNS own_int LANGUAGE internal IMMUTABLE STRICT AS 'int4in';
CREATE FUNCTION own_int_out(own_int) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS 'int4out';
CREATE TYPE own_int (INPUT = own_int_in, OUTPUT = own_int_out, INTERNALLENGTH = 4, PASSEDBYVALUE, ALIGNMENT = int4, CATEGORY = 'N');
CREATE TYPE only_a_shell;

CREATE TABLE numbers (a smallint, b int, c bigint, d numeric, e numeric(20, 5), f real, g double precision, h money, i oid, j xid, k pg_lsn);
INSERT INTO numbers VALUES
  (-32768, -2147483648, -9223372036854775808, 'NaN', 1.5, 'NaN', 'Infinity', '-92233720368547758.08', 4294967295, '1', '16/B374D848'),
  (32767, 2147483647, 9223372036854775807, '-Infinity', -0.00001, '-Infinity', 1e308, 0, 0, '2', '0/0'),
  (0, 0, 0, 1e-300, NULL, 0.1, 0.1, NULL, NULL, NULL, NULL),
  (NULL, NULL, NULL, ('1' || repeat('0', 1000) || '.5')::numeric, 0, 3.4028235e38, 4.9406564584124654e-324, 12.34, 1, '3', 'FFFFFFFF/FFFFFFFF'),
  (1, 1, 1, 0.0000, 100, 1.17549435e-38, -0.0, 1, 2, '4', '0/1');
CREATE TABLE times (a date, b timestamp, c timestamptz, d time, e timetz, f interval, g timestamptz(0));
INSERT INTO times VALUES
  ('infinity', '-infinity', 'infinity', '24:00', '23:59:59.999999+15:59', '-178000000 years', now()),
  ('4713-01-01 BC', '0001-01-01 00:00:00 BC', '0044-03-15 12:00 BC', '00:00', '00:00-15:59', '1 year -2 mons +3 days -04:05:06.789', 'epoch'),
  ('5874897-12-31', '294276-12-31 23:59:59.999999', '1883-11-18 12:03:58 America/New_York', '12:34:56.7', '12:00+05:45', '0', '2026-03-29 02:30 Europe/Berlin'),
  (NULL, NULL, NULL, NULL, NULL, NULL, NULL);
CREATE TABLE texts (a text, b varchar(10), c char(5), d "char", e name, f text COLLATE "C");
INSERT INTO texts VALUES
  ('', '', '', '', '', ''), (NULL, NULL, NULL, NULL, NULL, NULL),
  (E'\\.', E'\\N', E'\\', '\', E'\t', E'\b\f\n\r\t\v'), (E'\\.\n', E'\n', ' ', 'x', ' y ', E'\r\n'),
  (E'end\\', E'\\.\t\\N', E'\001', E'\177', '"', ''''), ('null', 'NULL', '\N', 'N', '$1', ':x :''x'' :"x"'),
  (U&'\00E9\20AC\+01F600\0301\FEFF\2028', 'ÄÖÜ', '漢字', 'q', '$(id)', '; DROP TABLE texts; --'),
  (repeat(E'\\', 1000) || E'\n' || repeat('.', 1000), NULL, 'a', NULL, repeat('n', 63), repeat(E'\t\n', 3000)),
  ('COPY public.texts (a) FROM stdin;', 'x', 'x', 'x', 'x', E'\nCOPY public.texts (a) FROM stdin;\nx\n\\.\n');
CREATE TABLE bytes (a bytea, b bit(5), c bit varying, d uuid, e bytea[]);
INSERT INTO bytes VALUES ('', B'10101', B'', '7a1e4f60-0000-4000-8000-00000000abcd', ARRAY['\x00', '\x5c2e0a'::bytea, NULL]),
  ('\x00', B'00000', B'1', '00000000-0000-0000-0000-000000000000', '{}'), (NULL, NULL, NULL, NULL, NULL);
INSERT INTO bytes SELECT decode(string_agg(lpad(to_hex(g), 2, '0'), '' ORDER BY g), 'hex'), B'11111', repeat('10', 500)::bit varying
  FROM generate_series(0, 255) g;
CREATE TABLE nets (a inet, b cidr, c macaddr, d macaddr8);
INSERT INTO nets VALUES ('::1', '10.0.0.0/8', '08:00:2b:01:02:03', '08:00:2b:01:02:03:04:05'), ('1.2.3.4/31', '2001:db8::/32', NULL, NULL);
CREATE TABLE shapes (a point, b line, c lseg, d box, e path, f polygon, g circle);
INSERT INTO shapes VALUES ('(NaN,Infinity)', '{1,2,3}', '[(0,0),(1,1)]', '((2,2),(1,1))', '[(0,0),(1e300,1)]', '((0,0),(1,1),(2,0))', '<(0.1,0.2),3>'),
  ('(-0,1e-300)', NULL, NULL, NULL, '((0,0),(1,1))', NULL, NULL);
CREATE TABLE documents (a json, b jsonb, c xml, d jsonpath, e tsvector, f tsquery);
INSERT INTO documents (a, b, d, e, f) VALUES
  (E'{ "b" : 1,\n "a":"\\u0041\\n", "b": 2 }', '{"z": [1e400, "\u20ac\"\\", null, {}], "a": {}}', '$.a[*] ? (@ > 1)', $$'a''b':1A,2 'c\\d':3$$, $$'x' & !'y z':*A <2> b$$),
  ('null', 'null', 'strict $', '', NULL), (NULL, NULL, NULL, NULL, NULL), ('"\\."', '"\\."', '$', 'a', 'a');
CREATE TABLE arrays (a int[], b text[][], c mood[], d int2vector, e "of ""odd"" name"[], f several, g int[3]);
INSERT INTO arrays VALUES ('{}', '{{a,"b,c"},{NULL,"NULL"}}', '{sad,"","very \"happy\""}', '1 2 3', ARRAY[ROW (1, 'x,"y"\', 'o''k')::"of ""odd"" name", NULL], '{1,2}', '[-2:0]={1,2,3}'),
  (NULL, '{}', NULL, '', '{}', NULL, NULL), ('[5:6]={1,NULL}', ARRAY[ARRAY[E'\\', E'\n'], ARRAY['', ' ']], '{first}', NULL, NULL, '{}', '{}');
CREATE TABLE ranges (a int4range, b numrange, c tsrange, d tstzrange, e daterange, f int8range, g moods, h span, i spans, j tstzmultirange, k int4multirange);
INSERT INTO ranges VALUES ('empty', '(,)', '[-infinity,infinity]', '["2026-01-01 00:00+00",)', '(,2026-01-01]', '[1,1]', '[sad,"very ""happy"""]', '(NaN,)', '{}', '{["2026-01-01 00:00+00","2026-01-02 00:00+00"),(,"2020-01-01 00:00+00")}', '{[1,2),[5,9)}'),
  (NULL, 'empty', '("2026-01-01 01:02:03.4",)', NULL, NULL, NULL, '("",)', '[1e-300,1e300)', '{[1,2),[3,4)}', '{}', NULL);
CREATE TABLE own_types (a positive DEFAULT 5, b short, c own_int, d "of ""odd"" name", e regclass, f regtype, g regrole, h regproc);
INSERT INTO own_types (b, c, d, e, f, h) VALUES ('abc', '7', ROW (NULL, '', 'first'), 'pg_catalog.pg_class', 'integer', 'txid_current'), ('', NULL, NULL, NULL, NULL, NULL);
CREATE TABLE xids (a xid8, b txid_snapshot, c pg_snapshot);
INSERT INTO xids VALUES ('18446744073709551615', '10:20:10,14', '10:20:');

-- Values far larger than a line is long.
CREATE TABLE large_values (id int, v text, w bytea, x text[]);
ALTER TABLE large_values ALTER v SET STORAGE EXTERNAL;
INSERT INTO large_values SELECT g, repeat(md5(g::text) || E'\\\n\t', 9000), decode(repeat(md5(g::text), 5000), 'hex'),
  array_fill(md5(g::text), ARRAY[300]) FROM generate_series(1, 4) g;
