-- What exists in a database and how it is defined, an object a row: (what, definition).
-- Objects of extensions and of the system are left out. Backing for `definitions.py`.
WITH RECURSIVE namespaces AS (
  SELECT oid, nspname FROM pg_namespace
   WHERE nspname !~ '^pg_(toast|temp|catalog)' AND nspname <> 'information_schema'
), owned AS (
  SELECT classid, objid FROM pg_depend WHERE deptype = 'e'
), relations AS (
  SELECT c.*, format('%I.%I', n.nspname, c.relname) AS name
    FROM pg_class c JOIN namespaces n ON n.oid = c.relnamespace
   WHERE NOT EXISTS (SELECT FROM owned o WHERE o.classid = 'pg_class'::regclass AND o.objid = c.oid)
), functions AS (
  SELECT p.*, format('%I.%I(%s)', n.nspname, p.proname, pg_get_function_identity_arguments(p.oid)) AS name
    FROM pg_proc p JOIN namespaces n ON n.oid = p.pronamespace
   WHERE NOT EXISTS (SELECT FROM owned o WHERE o.classid = 'pg_proc'::regclass AND o.objid = p.oid)
), types AS (
  SELECT t.*, format('%I.%I', n.nspname, t.typname) AS name
    FROM pg_type t JOIN namespaces n ON n.oid = t.typnamespace
   WHERE NOT EXISTS (SELECT FROM owned o WHERE o.classid = 'pg_type'::regclass AND o.objid = t.oid)
), inherited AS (
  -- Where columns come from: a table made as a child has its parents' first, in the parents' order,
  -- and its own after them. One attached later has them in any order until it is restored.
  SELECT attrelid, attname, ARRAY[1, attnum::int] AS path FROM pg_attribute
   WHERE attnum > 0 AND NOT attisdropped AND attrelid IN (SELECT inhparent FROM pg_inherits)
  UNION ALL
  SELECT a.attrelid, a.attname, ARRAY[0, i.inhseqno] || p.path
    FROM inherited p JOIN pg_inherits i ON i.inhparent = p.attrelid
    JOIN pg_class c ON c.oid = i.inhrelid AND NOT c.relispartition
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = p.attname AND NOT a.attisdropped
), places AS (
  SELECT attrelid, attname, min(path) AS path FROM inherited GROUP BY attrelid, attname
), privileges AS (
  SELECT 'relation ' || name AS what, relowner AS owner,
         coalesce(relacl, acldefault(CASE relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", relowner)) AS acl
    FROM relations WHERE relkind IN ('r', 'p', 'v', 'm', 'S', 'f')
  UNION ALL
  SELECT 'function ' || name, proowner, coalesce(proacl, acldefault('f', proowner)) FROM functions
  UNION ALL
  SELECT format('schema %I', nspname), nspowner, coalesce(nspacl, acldefault('n', nspowner))
    FROM pg_namespace WHERE oid IN (SELECT oid FROM namespaces) AND nspname <> 'public'
)
SELECT format('%s %s', CASE relkind WHEN 'r' THEN 'table' WHEN 'p' THEN 'table' WHEN 'v' THEN 'view'
                                    WHEN 'm' THEN 'materialized view' WHEN 'f' THEN 'foreign table'
                                    WHEN 'c' THEN 'type' ELSE 'relation' END, name),
       concat_ws(E'\n', relkind, relpersistence, relrowsecurity, relforcerowsecurity, reloptions::text,
                 pg_get_partkeydef(oid), pg_get_expr(relpartbound, oid),
                 (SELECT string_agg(inhparent::regclass::text, ',' ORDER BY inhseqno)
                    FROM pg_inherits WHERE inhrelid = relations.oid),
                 CASE WHEN relkind IN ('v', 'm') THEN pg_get_viewdef(oid) END)
  FROM relations WHERE relkind IN ('r', 'p', 'v', 'm', 'f', 'c')
UNION ALL
SELECT format('column %s.%I', r.name, a.attname),
       concat_ws(E'\n', format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity, a.attgenerated,
                 pg_get_expr(d.adbin, d.adrelid), a.attcollation::regcollation,
                 row_number() OVER (PARTITION BY a.attrelid
                                    ORDER BY coalesce(o.path, ARRAY[1, a.attnum::int])))
  FROM pg_attribute a JOIN relations r ON r.oid = a.attrelid
  LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
  LEFT JOIN places o ON o.attrelid = a.attrelid AND o.attname = a.attname
 WHERE r.relkind IN ('r', 'p', 'v', 'm', 'f', 'c') AND a.attnum > 0 AND NOT a.attisdropped
UNION ALL
SELECT format('sequence %s', r.name),
       concat_ws(E'\n', s.seqtypid::regtype, s.seqstart, s.seqincrement, s.seqmin, s.seqmax, s.seqcache,
                 s.seqcycle,
                 (SELECT format('%s.%s', d.refobjid::regclass, d.refobjsubid) FROM pg_depend d
                   WHERE d.classid = 'pg_class'::regclass AND d.objid = r.oid
                     AND d.deptype IN ('a', 'i') AND d.refclassid = 'pg_class'::regclass LIMIT 1))
  FROM pg_sequence s JOIN relations r ON r.oid = s.seqrelid
UNION ALL
SELECT format('index %s', r.name), pg_get_indexdef(i.indexrelid)
  FROM pg_index i JOIN relations r ON r.oid = i.indexrelid WHERE i.indisvalid
UNION ALL
SELECT format('constraint %I on %s', c.conname, coalesce(r.name, t.name)), pg_get_constraintdef(c.oid)
  FROM pg_constraint c LEFT JOIN relations r ON r.oid = c.conrelid LEFT JOIN types t ON t.oid = c.contypid
 WHERE c.contype IN ('c', 'f', 'p', 'u', 'x') AND coalesce(r.name, t.name) IS NOT NULL
UNION ALL
SELECT format('trigger %I on %s', g.tgname, r.name), concat_ws(E'\n', pg_get_triggerdef(g.oid), g.tgenabled)
  FROM pg_trigger g JOIN relations r ON r.oid = g.tgrelid WHERE NOT g.tgisinternal
UNION ALL
SELECT format('rule %I on %s', w.rulename, r.name), concat_ws(E'\n', pg_get_ruledef(w.oid), w.ev_enabled)
  FROM pg_rewrite w JOIN relations r ON r.oid = w.ev_class WHERE w.rulename <> '_RETURN'
UNION ALL
SELECT format('policy %I on %s', p.polname, r.name),
       concat_ws(E'\n', p.polcmd, p.polpermissive, pg_get_expr(p.polqual, p.polrelid),
                 pg_get_expr(p.polwithcheck, p.polrelid),
                 (SELECT string_agg(role, ',' ORDER BY role COLLATE "C")
                    FROM (SELECT CASE WHEN o = 0 THEN 'public' ELSE pg_get_userbyid(o)::text END AS role
                            FROM unnest(p.polroles) o) every))
  FROM pg_policy p JOIN relations r ON r.oid = p.polrelid
UNION ALL
SELECT format('statistics %I.%I', n.nspname, s.stxname), pg_get_statisticsobjdef(s.oid)
  FROM pg_statistic_ext s JOIN namespaces n ON n.oid = s.stxnamespace
UNION ALL
SELECT format('function %s', name),
       CASE WHEN prokind = 'a' THEN (SELECT to_jsonb(g) - 'aggfnoid' FROM pg_aggregate g WHERE g.aggfnoid = f.oid)::text
            ELSE pg_get_functiondef(oid) END
  FROM functions f
UNION ALL
SELECT format('type %s', name),
       concat_ws(E'\n', typtype, CASE typtype WHEN 'd' THEN format_type(typbasetype, typtypmod) END, typnotnull,
                 typdefault,
                 (SELECT string_agg(enumlabel, ',' ORDER BY enumsortorder) FROM pg_enum WHERE enumtypid = types.oid),
                 (SELECT format_type(rngsubtype, NULL) FROM pg_range WHERE rngtypid = types.oid))
  FROM types WHERE typtype IN ('d', 'e', 'r', 'b') AND typelem = 0
UNION ALL
SELECT format('schema %I', nspname), '' FROM namespaces
UNION ALL
SELECT format('privileges on %s', p.what),
       concat_ws(E'\n', pg_get_userbyid(p.owner),
                 (SELECT string_agg(granted, ',' ORDER BY granted COLLATE "C")
                    FROM (SELECT DISTINCT format('%s %s %s', CASE WHEN x.grantee = 0 THEN 'public'
                                                                  ELSE pg_get_userbyid(x.grantee) END,
                                                 x.privilege_type, x.is_grantable) AS granted
                            FROM aclexplode(p.acl) x) every))
  FROM privileges p
UNION ALL
SELECT format('comment on %s %s', i.type, i.identity), d.description
  FROM pg_description d CROSS JOIN LATERAL pg_identify_object(d.classoid, d.objoid, d.objsubid) i
 WHERE i.schema IN (SELECT nspname FROM namespaces)
   AND NOT EXISTS (SELECT FROM owned o WHERE o.classid = d.classoid AND o.objid = d.objoid)
UNION ALL
SELECT format('%s %s', i.type, i.identity), ''
  FROM (SELECT 'pg_event_trigger'::regclass AS class, oid FROM pg_event_trigger
        UNION ALL SELECT 'pg_publication'::regclass, oid FROM pg_publication
        UNION ALL SELECT 'pg_operator'::regclass, oid FROM pg_operator
        UNION ALL SELECT 'pg_cast'::regclass, oid FROM pg_cast
        UNION ALL SELECT 'pg_collation'::regclass, oid FROM pg_collation
        UNION ALL SELECT 'pg_conversion'::regclass, oid FROM pg_conversion
        UNION ALL SELECT 'pg_ts_config'::regclass, oid FROM pg_ts_config
        UNION ALL SELECT 'pg_ts_dict'::regclass, oid FROM pg_ts_dict
        UNION ALL SELECT 'pg_foreign_data_wrapper'::regclass, oid FROM pg_foreign_data_wrapper
        UNION ALL SELECT 'pg_foreign_server'::regclass, oid FROM pg_foreign_server
        UNION ALL SELECT 'pg_language'::regclass, oid FROM pg_language
        UNION ALL SELECT 'pg_opclass'::regclass, oid FROM pg_opclass
        UNION ALL SELECT 'pg_opfamily'::regclass, oid FROM pg_opfamily) other,
       LATERAL pg_identify_object(other.class, other.oid, 0) i
 WHERE other.oid >= 16384
   AND NOT EXISTS (SELECT FROM owned o WHERE o.classid = other.class AND o.objid = other.oid)
