-- Names nobody should choose and somebody did; rights and comments on everything.
DO $$ BEGIN
  CREATE ROLE zora; CREATE ROLE ada; CREATE ROLE "Odd ""role""";
EXCEPTION WHEN duplicate_object THEN NULL; END $$;
CREATE SCHEMA "odd schema"; CREATE SCHEMA "$(id)"; CREATE SCHEMA "a.b" AUTHORIZATION zora; CREATE SCHEMA "SELECT";
CREATE SCHEMA "line
break"; CREATE SCHEMA "\."; CREATE SCHEMA "öäü漢字";
CREATE TABLE "odd schema"."COPY x (a) FROM stdin;
1
\." ("a ""b""" int, "c,d" text, "select" int, "x
y" text, "$1" int, ":v" int, "\N" int, " " int, "'" int);
INSERT INTO "odd schema"."COPY x (a) FROM stdin;
1
\." VALUES (1, 'a', 2, E'\n\\.\n', 3, 4, 5, 6, 7), (NULL, '\.', NULL, NULL, NULL, NULL, NULL, NULL, NULL);
CREATE TABLE "$(id)"."; DROP TABLE x; --" (id int); INSERT INTO "$(id)"."; DROP TABLE x; --" VALUES (1);
CREATE TABLE "a.b"."c.d" (id int); INSERT INTO "a.b"."c.d" VALUES (2);
CREATE TABLE "a.b".c ("d.e" int); INSERT INTO "a.b".c VALUES (3);
CREATE TABLE "SELECT"."FROM" ("WHERE" int, "table" int, "user" int); INSERT INTO "SELECT"."FROM" VALUES (1, 2, 3);
CREATE TABLE "line
break"."--" (id int PRIMARY KEY); INSERT INTO "line
break"."--" VALUES (4);
CREATE TABLE "\."."\." ("\." int); INSERT INTO "\."."\." VALUES (5);
CREATE TABLE "öäü漢字"."ÄÖÜ€漢字ÄÖÜ€漢字ÄÖÜ€漢字ÄÖÜ€漢字Ä" ("ß" text COLLATE "C"); INSERT INTO "öäü漢字"."ÄÖÜ€漢字ÄÖÜ€漢字ÄÖÜ€漢字ÄÖÜ€漢字Ä" VALUES ('漢');
CREATE TABLE "`id`" ("%s" int, "{}" int, "{0}" int, "*" int); INSERT INTO "`id`" VALUES (1, 2, 3, 4);
CREATE TABLE "../../etc/passwd" ("/" int); INSERT INTO "../../etc/passwd" VALUES (1);
CREATE TABLE "UPPER" ("Case" int, "case" int); INSERT INTO "UPPER" VALUES (1, 2);
CREATE TABLE """" ("""""" int); INSERT INTO """" VALUES (1);
CREATE TABLE x63456789012345678901234567890123456789012345678901234567890123 (id serial CONSTRAINT "the ""key""" PRIMARY KEY);
INSERT INTO x63456789012345678901234567890123456789012345678901234567890123 DEFAULT VALUES;
CREATE TABLE "tab	table" ("tab	column" int, "é" int); INSERT INTO "tab	table" VALUES (1, 1);
CREATE TABLE E (id int); CREATE TABLE _ (id int); CREATE TABLE "1" (id int); CREATE TABLE "user" (id int);
INSERT INTO E VALUES (1); INSERT INTO _ VALUES (1); INSERT INTO "1" VALUES (1); INSERT INTO "user" VALUES (1);
CREATE SEQUENCE "odd schema"."s'q""x\"; SELECT setval('"odd schema"."s''q""x\"', 42);
CREATE TYPE "a.b"."e'n""um" AS ENUM ('x');
CREATE TABLE uses_odd (v "a.b"."e'n""um" DEFAULT 'x', w text DEFAULT E'\\.\n"'); INSERT INTO uses_odd DEFAULT VALUES;
CREATE FUNCTION "odd schema"."f(int)"(int) RETURNS int LANGUAGE sql AS 'SELECT $1';

COMMENT ON SCHEMA "$(id)" IS $$it's; "x" $(id) `id` \ $1$$;
COMMENT ON TABLE uses_odd IS E'COPY public.uses_odd (v) FROM stdin;\nx\n\\.\n';
COMMENT ON COLUMN uses_odd.v IS E'/* not closed\n-- and a line';
COMMENT ON FUNCTION "odd schema"."f(int)"(int) IS E'\\connect other\n\\! id\n';
COMMENT ON SEQUENCE "odd schema"."s'q""x\" IS '';
COMMENT ON TYPE "a.b"."e'n""um" IS E'SELECT pg_catalog.setval(''public.x'', 5, true);\n';
COMMENT ON CONSTRAINT "the ""key""" ON x63456789012345678901234567890123456789012345678901234567890123 IS 'key';
ALTER TABLE "a.b".c OWNER TO zora;
GRANT SELECT, INSERT ON "SELECT"."FROM" TO ada WITH GRANT OPTION;
GRANT SELECT ("WHERE"), UPDATE ("table") ON "SELECT"."FROM" TO "Odd ""role""";
GRANT USAGE ON SCHEMA "a.b", "SELECT" TO ada, "Odd ""role""", PUBLIC;
SET ROLE ada; GRANT SELECT ON "SELECT"."FROM" TO zora; RESET ROLE;
REVOKE ALL ON FUNCTION "odd schema"."f(int)"(int) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION "odd schema"."f(int)"(int) TO zora;
GRANT USAGE ON SEQUENCE "odd schema"."s'q""x\" TO zora;
REVOKE USAGE ON TYPE "a.b"."e'n""um" FROM PUBLIC;
GRANT SELECT ON ALL TABLES IN SCHEMA "odd schema" TO "Odd ""role""";
ALTER DEFAULT PRIVILEGES IN SCHEMA "odd schema" GRANT SELECT ON TABLES TO ada;
ALTER DEFAULT PRIVILEGES FOR ROLE zora REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
ALTER DEFAULT PRIVILEGES GRANT USAGE ON SEQUENCES TO "Odd ""role""" WITH GRANT OPTION;
CREATE POLICY "odd ""policy""" ON uses_odd FOR SELECT TO zora, ada, "Odd ""role""" USING (w <> E'\\');
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO zora;

-- Large objects: empty, of holes, of more than one chunk, with owners, rights and comments.
SELECT lo_from_bytea(5001, ''), lo_from_bytea(5002, '\x5c2e0a00ff'), lo_from_bytea(5003, decode(repeat('00ff5c', 900000), 'hex'));
SELECT lo_create(5004), lo_put(5004, 3000000, 'behind a hole');
COMMENT ON LARGE OBJECT 5002 IS E'it''s\nSELECT pg_catalog.lowrite(0, ''\\x00'');\n';
ALTER LARGE OBJECT 5003 OWNER TO zora;
GRANT SELECT ON LARGE OBJECT 5004 TO ada, PUBLIC;
GRANT ALL ON LARGE OBJECT 5001 TO "Odd ""role""";
