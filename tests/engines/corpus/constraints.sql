-- Constraints of every kind, those not valid and those not checked at once, and rings of them.
CREATE TABLE keys (a int, b int, c text, PRIMARY KEY (a, b), UNIQUE (c), UNIQUE NULLS DISTINCT (b, c));
INSERT INTO keys VALUES (1, 1, 'x'), (1, 2, NULL), (2, 1, NULL);
CREATE TABLE refers (id int PRIMARY KEY, a int, b int, s int REFERENCES refers DEFERRABLE,
  FOREIGN KEY (a, b) REFERENCES keys MATCH FULL ON DELETE SET NULL (a, b) ON UPDATE CASCADE);
INSERT INTO refers VALUES (1, 1, 1, 1), (2, NULL, NULL, 1), (3, 1, 2, 2);
CREATE TABLE ring_a (id int PRIMARY KEY, b int);
CREATE TABLE ring_b (id int PRIMARY KEY, c int);
CREATE TABLE ring_c (id int PRIMARY KEY, a int REFERENCES ring_a DEFERRABLE INITIALLY DEFERRED);
ALTER TABLE ring_a ADD CONSTRAINT a_b FOREIGN KEY (b) REFERENCES ring_b DEFERRABLE INITIALLY DEFERRED;
ALTER TABLE ring_b ADD CONSTRAINT b_c FOREIGN KEY (c) REFERENCES ring_c DEFERRABLE INITIALLY DEFERRED;
BEGIN; INSERT INTO ring_a VALUES (1, 1); INSERT INTO ring_b VALUES (1, 1); INSERT INTO ring_c VALUES (1, 1); COMMIT;
CREATE TABLE old_rows (v int);
INSERT INTO old_rows VALUES (-5), (5);
ALTER TABLE old_rows ADD CONSTRAINT later CHECK (v > 0) NOT VALID;
ALTER TABLE old_rows ADD CONSTRAINT to_keys FOREIGN KEY (v) REFERENCES ring_a NOT VALID;
CREATE TABLE checks (a int CONSTRAINT "a ""odd"" check" CHECK (a <> 7) NO INHERIT, b text CHECK (b ~ E'^\\w+$'), CHECK (a < 10 OR b IS NULL));
INSERT INTO checks VALUES (1, 'ok'), (20, NULL);
CREATE TABLE bookings (room int4range, during tstzrange, EXCLUDE USING gist (room WITH =, during WITH &&) WHERE (NOT isempty(room)) DEFERRABLE);
INSERT INTO bookings VALUES ('[1,2)', '[2026-01-01 00:00+00, 2026-01-02 00:00+00)'), ('[1,2)', '[2026-01-02 00:00+00,)');
CREATE TABLE indexed (a int, b text, c int[], d point, e tsvector, f jsonb);
INSERT INTO indexed SELECT g, 'b' || g, ARRAY[g, g + 1], point(g, g), to_tsvector('simple', 'w' || g), jsonb_build_object('k', g) FROM generate_series(1, 30) g;
CREATE UNIQUE INDEX "odd ""index""" ON indexed (a DESC NULLS LAST) INCLUDE (b) WITH (fillfactor = 70);
CREATE INDEX ON indexed (lower(b) text_pattern_ops, (a + 1)) WHERE a % 2 = 0;
CREATE INDEX ON indexed USING gin (c); CREATE INDEX ON indexed USING gin (f jsonb_path_ops);
CREATE INDEX ON indexed USING spgist (d); CREATE INDEX ON indexed USING brin (a) WITH (pages_per_range = 4);
CREATE INDEX ON indexed USING hash (b); CREATE INDEX ON indexed USING gist (e);
CREATE UNIQUE INDEX identity_index ON keys (c, a) WHERE c IS NOT NULL;
ALTER TABLE keys REPLICA IDENTITY FULL;
ALTER TABLE refers CLUSTER ON refers_pkey;
ALTER TABLE refers REPLICA IDENTITY USING INDEX refers_pkey;
CREATE INDEX on_expression ON indexed ((a * 3));
ALTER INDEX on_expression ALTER COLUMN 1 SET STATISTICS 100;
CREATE STATISTICS st_kinds (dependencies, mcv) ON a, b FROM keys;
CREATE STATISTICS st_expressions ON (a + 1), lower(b) FROM indexed;
ALTER STATISTICS st_kinds SET STATISTICS 55;
ALTER TABLE ONLY indexed ALTER COLUMN a SET (n_distinct = 5);

CREATE TABLE parted (id int NOT NULL, day date NOT NULL, ref int REFERENCES ring_a, CHECK (id > 0)) PARTITION BY RANGE (day);
CREATE TABLE parted_1 PARTITION OF parted (CHECK (id < 1000)) FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
CREATE TABLE parted_0 PARTITION OF parted DEFAULT;
ALTER TABLE parted ADD PRIMARY KEY (id, day);
CREATE TABLE to_parted (id int, day date, FOREIGN KEY (id, day) REFERENCES parted);
INSERT INTO parted VALUES (1, '2026-05-05', 1), (2, '2020-05-05', NULL);
INSERT INTO to_parted VALUES (1, '2026-05-05'), (2, '2020-05-05');

SELECT current_setting('server_version_num')::int >= 150000 AS since_15,
       current_setting('server_version_num')::int >= 180000 AS since_18 \gset
\if :since_15
CREATE TABLE one_null (v int, UNIQUE NULLS NOT DISTINCT (v));
INSERT INTO one_null VALUES (NULL), (1);
\endif
\if :since_18
CREATE TABLE over_time (id int4range, during daterange, PRIMARY KEY (id, during WITHOUT OVERLAPS));
INSERT INTO over_time VALUES ('[1,2)', '[2026-01-01,2026-02-01)'), ('[1,2)', '[2026-02-01,2026-03-01)');
CREATE TABLE over_time_of (id int4range, during daterange, FOREIGN KEY (id, PERIOD during) REFERENCES over_time (id, PERIOD during));
INSERT INTO over_time_of VALUES ('[1,2)', '[2026-01-15,2026-02-15)');
CREATE TABLE not_enforced (a int CHECK (a > 0) NOT ENFORCED, b int, CONSTRAINT b_there NOT NULL b NO INHERIT);
INSERT INTO not_enforced VALUES (-1, 1);
ALTER TABLE old_rows ADD CONSTRAINT v_there NOT NULL v NOT VALID;
\endif
