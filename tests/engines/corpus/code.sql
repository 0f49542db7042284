-- What a database does by itself: functions, triggers, rules, policies, operators, publications.
CREATE TABLE t (id int PRIMARY KEY, v text, w int);
CREATE TABLE log (at timestamptz DEFAULT '2026-01-01', what text);
CREATE VIEW v AS SELECT id, v FROM t;
CREATE FUNCTION plain_sql(a int, b text DEFAULT E'it''s\\', VARIADIC c int[] DEFAULT '{}') RETURNS TABLE (x int, y text)
  LANGUAGE sql STABLE PARALLEL SAFE COST 5 ROWS 7 SET search_path = pg_catalog, "odd ""path""" AS $f$ SELECT a, b || $q$COPY public.t (id) FROM stdin;
1
\.
$q$ $f$;
CREATE FUNCTION standard_body(a int) RETURNS int LANGUAGE sql IMMUTABLE RETURN a + 1;
CREATE FUNCTION atomic_body() RETURNS bigint BEGIN ATOMIC; SELECT count(*) FROM public.t; SELECT 2::bigint; END;
CREATE PROCEDURE doing(INOUT a int, OUT b int) LANGUAGE plpgsql AS $$ BEGIN b := a; COMMIT; END $$;
CREATE FUNCTION polymorphic(anyelement, anyarray) RETURNS anyelement LANGUAGE sql AS 'SELECT $1';
CREATE FUNCTION of_table(t) RETURNS t LANGUAGE sql SECURITY DEFINER LEAKPROOF AS 'SELECT $1';
CREATE FUNCTION on_change() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.log (what) VALUES (TG_NAME || TG_OP); RETURN coalesce(new, old); END $$;
CREATE FUNCTION on_statement() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
INSERT INTO t SELECT g, 'v' || g, g FROM generate_series(1, 20) g;
CREATE TRIGGER changed BEFORE INSERT OR UPDATE OF v OR DELETE ON t FOR EACH ROW WHEN (pg_trigger_depth() < 1) EXECUTE FUNCTION on_change('a', E'b\\''');
CREATE TRIGGER changed_rows AFTER UPDATE ON t REFERENCING OLD TABLE AS o NEW TABLE AS n FOR EACH STATEMENT EXECUTE FUNCTION on_statement();
CREATE CONSTRAINT TRIGGER checked AFTER INSERT ON t DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION on_statement();
CREATE TRIGGER instead INSTEAD OF INSERT ON v FOR EACH ROW EXECUTE FUNCTION on_change();
CREATE TRIGGER on_truncate BEFORE TRUNCATE ON t EXECUTE FUNCTION on_statement();
ALTER TABLE t DISABLE TRIGGER changed_rows;
ALTER TABLE t ENABLE ALWAYS TRIGGER changed;
ALTER TABLE t ENABLE REPLICA TRIGGER on_truncate;
INSERT INTO t VALUES (100, 'by trigger', 1);
CREATE TABLE ruled (id int);
CREATE RULE twice AS ON INSERT TO ruled DO ALSO (INSERT INTO log (what) VALUES ('rule; one'); INSERT INTO log (what) VALUES (E'rule\\ "two"'));
CREATE RULE nothing AS ON DELETE TO ruled WHERE old.id = 1 DO INSTEAD NOTHING;
ALTER TABLE ruled DISABLE RULE nothing;
INSERT INTO ruled VALUES (1), (2);
CREATE RULE on_view AS ON UPDATE TO v DO INSTEAD UPDATE t SET v = new.v WHERE id = old.id;
CREATE FUNCTION on_ddl() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN NULL; END';
CREATE EVENT TRIGGER watch ON ddl_command_end WHEN TAG IN ('CREATE TABLE', 'DROP TABLE') EXECUTE FUNCTION on_ddl();
CREATE EVENT TRIGGER asleep ON sql_drop EXECUTE FUNCTION on_ddl();
ALTER EVENT TRIGGER asleep DISABLE;

CREATE TABLE secret (owner text, v int);
INSERT INTO secret VALUES ('a', 1), ('postgres', 2);
ALTER TABLE secret ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY mine ON secret USING (owner = current_user) WITH CHECK (v > 0);
CREATE POLICY no_deletes ON secret AS RESTRICTIVE FOR DELETE TO PUBLIC USING (false);

CREATE FUNCTION add_up(numeric, numeric) RETURNS numeric LANGUAGE sql IMMUTABLE STRICT AS 'SELECT $1 + $2';
CREATE AGGREGATE total (numeric) (sfunc = add_up, stype = numeric, initcond = '0', msfunc = add_up, minvfunc = numeric_sub, mstype = numeric, parallel = safe, combinefunc = add_up);
CREATE AGGREGATE middle (float8 ORDER BY anyelement) (sfunc = ordered_set_transition, stype = internal, finalfunc = percentile_disc_final, finalfunc_extra);
CREATE OPERATOR === (leftarg = int4, rightarg = int4, function = int4eq, commutator = ===, negator = !==, restrict = eqsel, join = eqjoinsel, hashes);
CREATE OPERATOR !== (leftarg = int4, rightarg = int4, function = int4ne, commutator = !==, negator = ===);
CREATE OPERATOR FAMILY fam USING btree;
CREATE OPERATOR CLASS backwards FOR TYPE int4 USING btree FAMILY fam AS
  OPERATOR 1 >, OPERATOR 2 >=, OPERATOR 3 =, OPERATOR 4 <=, OPERATOR 5 <, FUNCTION 1 btint4cmp(int4, int4);
CREATE TYPE celsius AS (degrees float8);
CREATE FUNCTION to_celsius(float8) RETURNS celsius LANGUAGE sql IMMUTABLE AS 'SELECT ROW ($1)::celsius';
CREATE CAST (float8 AS celsius) WITH FUNCTION to_celsius(float8) AS ASSIGNMENT;
CREATE CAST (celsius AS text) WITH INOUT;
CREATE CONVERSION own_conversion FOR 'UTF8' TO 'LATIN1' FROM utf8_to_iso8859_1;
CREATE COLLATION own_collation (locale = 'C');
CREATE TEXT SEARCH DICTIONARY own_dictionary (TEMPLATE = simple, stopwords = 'english');
CREATE TEXT SEARCH CONFIGURATION own_search (COPY = simple);
ALTER TEXT SEARCH CONFIGURATION own_search ALTER MAPPING FOR asciiword WITH own_dictionary, simple;
CREATE ACCESS METHOD another_heap TYPE TABLE HANDLER heap_tableam_handler;
CREATE TABLE other_heap (id int) USING another_heap;
INSERT INTO other_heap VALUES (1), (2);
CREATE TABLE uses_code (a int DEFAULT standard_body(41), b int GENERATED ALWAYS AS (standard_body(a)) STORED, c celsius, CHECK (standard_body(a) > 0));
INSERT INTO uses_code (a, c) VALUES (1, 36.6::float8), (DEFAULT, NULL);
CREATE INDEX ON uses_code (standard_body(a));
CREATE INDEX ON t USING btree (w backwards);

CREATE PUBLICATION everything FOR ALL TABLES WITH (publish = 'insert, truncate');
CREATE PUBLICATION of_two FOR TABLE t, ONLY log;
SELECT current_setting('server_version_num')::int >= 150000 AS since_15 \gset
\if :since_15
CREATE SCHEMA published;
CREATE TABLE published.p (id int);
CREATE PUBLICATION filtered FOR TABLE t (id, v) WHERE (id > 5);
CREATE PUBLICATION of_a_schema FOR TABLES IN SCHEMA published, TABLE t WHERE (w IS NOT NULL);
CREATE VIEW as_invoker WITH (security_invoker) AS SELECT * FROM t;
\endif
