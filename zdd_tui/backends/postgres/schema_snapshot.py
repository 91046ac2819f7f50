"""Reads the schema of a database as one value, with a few queries of the catalog."""

# ruff: noqa: S608  only our own condition is put together

from zdd_tui.backends.postgres.connection import Connection
from zdd_tui.model.advice.schema import ColumnInfo, ConstraintInfo, RelationInfo, SchemaSnapshot

_USER_SCHEMAS = (
    "n.nspname NOT IN ('pg_catalog', 'information_schema', 'zdd', 'zdd_archive') AND n.nspname !~ '^pg_(toast|temp)'"
)

# Inherited indexes of partitions are relations of their own; TOAST tables are left out.
_RELATIONS = f"""
SELECT c.oid::bigint AS oid, n.nspname::text AS schema, c.relname::text AS name, c.relkind::text AS kind,
  c.relfilenode::bigint AS filenode, pg_get_userbyid(c.relowner)::text AS owner,
  ARRAY(SELECT coalesce(r.rolname, 'PUBLIC') || ' ' || a.privilege_type
        FROM aclexplode(c.relacl) a LEFT JOIN pg_roles r ON r.oid = a.grantee WHERE a.grantee <> c.relowner
        UNION SELECT coalesce(r.rolname, 'PUBLIC') || ' ' || a.privilege_type || ' (' || t.attname || ')'
        FROM pg_attribute t, aclexplode(t.attacl) a LEFT JOIN pg_roles r ON r.oid = a.grantee
        WHERE t.attrelid = c.oid AND t.attacl IS NOT NULL AND NOT t.attisdropped) AS grants,
  ARRAY(SELECT i.inhparent::bigint FROM pg_inherits i
        WHERE i.inhrelid = c.oid AND c.relkind NOT IN ('i', 'I') ORDER BY 1) AS parents,
  c.relispartition AS is_partition,
  EXISTS (SELECT FROM pg_partitioned_table p WHERE p.partdefid = c.oid) AS is_default_partition,
  CASE WHEN c.relforcerowsecurity AND c.relrowsecurity THEN 'forced' WHEN c.relrowsecurity THEN 'on' ELSE 'off' END
    AS row_security,
  coalesce(x.indisvalid, true) AS is_valid, coalesce(x.indrelid, 0)::bigint AS index_of,
  coalesce(x.indisunique, false) AS is_unique,
  concat_ws(' ', c.relpersistence::text, c.relreplident::text, m.amname, c.reloptions::text) AS settings,
  (SELECT s.spcname::text FROM pg_tablespace s WHERE s.oid = coalesce(nullif(c.reltablespace, 0),
     (SELECT b.dattablespace FROM pg_database b WHERE b.datname = current_database()))) AS tablespace,
  ARRAY(SELECT DISTINCT d.refobjsubid FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = x.indexrelid
        AND d.refclassid = 'pg_class'::regclass AND d.refobjid = x.indrelid AND d.refobjsubid > 0) AS index_columns
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_index x ON x.indexrelid = c.oid
LEFT JOIN pg_am m ON m.oid = c.relam
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S', 'i', 'I') AND {_USER_SCHEMAS}
"""

_COLUMNS = f"""
SELECT a.attrelid::bigint AS relation, a.attnum::int AS number, a.attname::text AS name,
  format_type(a.atttypid, a.atttypmod) AS type, a.attnotnull AS not_null,
  coalesce(pg_get_expr(d.adbin, d.adrelid), '') AS default, a.attidentity::text AS identity,
  a.attgenerated::text AS generated
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND {_USER_SCHEMAS}
ORDER BY 1, 2
"""

_CONSTRAINTS = f"""
SELECT k.oid::bigint AS oid, k.conname::text AS name, k.contype::text AS kind, k.conrelid::bigint AS table,
  k.confrelid::bigint AS target, k.convalidated AS is_valid, k.conindid::bigint AS index,
  pg_get_constraintdef(k.oid) AS definition, coalesce(k.conkey::int[], '{{}}') AS columns,
  coalesce(k.confkey::int[], '{{}}') AS target_columns
FROM pg_constraint k JOIN pg_namespace n ON n.oid = k.connamespace WHERE {_USER_SCHEMAS}
"""

_USES = f"""
SELECT DISTINCT r.ev_class::bigint AS view, d.refobjid::bigint AS oid, d.refobjsubid::int AS number
FROM pg_rewrite r JOIN pg_class c ON c.oid = r.ev_class JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid AND d.refclassid = 'pg_class'::regclass
  AND d.refobjid <> r.ev_class
WHERE c.relkind IN ('v', 'm') AND {_USER_SCHEMAS}
"""

_OBJECTS = f"""
SELECT 'schema' AS kind, n.oid::bigint AS oid, n.nspname::text AS text FROM pg_namespace n WHERE {_USER_SCHEMAS}
UNION ALL
SELECT 'function', p.oid::bigint, n.nspname || '.' || p.proname || '(' || pg_get_function_identity_arguments(p.oid)
  || ')' || chr(10) || md5(concat_ws(' ', p.prosrc, p.prorettype::regtype, p.prosecdef, p.proconfig::text))
  || ' ' || p.provolatile::text
FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE {_USER_SCHEMAS}
UNION ALL
SELECT 'type', t.oid::bigint, n.nspname || '.' || t.typname || chr(10) || concat_ws(chr(10), t.typtype::text,
  format_type(t.typbasetype, t.typtypmod),
  CASE WHEN t.typnotnull OR t.typdefault IS NOT NULL OR EXISTS (SELECT FROM pg_constraint k WHERE k.contypid = t.oid)
       THEN 'constrained' ELSE 'free' END, concat_ws(' ', t.typnotnull::text, t.typdefault),
  (SELECT string_agg(e.enumlabel, ',' ORDER BY e.oid) FROM pg_enum e WHERE e.enumtypid = t.oid))
FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
WHERE (t.typtype IN ('d', 'e', 'r') OR (t.typtype = 'c'
       AND EXISTS (SELECT FROM pg_class c WHERE c.oid = t.typrelid AND c.relkind = 'c'))) AND {_USER_SCHEMAS}
UNION ALL
SELECT 'statistics', s.oid::bigint, n.nspname || '.' || s.stxname || chr(10) || s.stxrelid::regclass
FROM pg_statistic_ext s JOIN pg_namespace n ON n.oid = s.stxnamespace WHERE {_USER_SCHEMAS}
UNION ALL
SELECT 'policy', p.oid::bigint, p.polname || ' on ' || n.nspname || '.' || c.relname || chr(10) || concat_ws(' ',
  p.polcmd, p.polpermissive, p.polroles::text, pg_get_expr(p.polqual, p.polrelid),
  pg_get_expr(p.polwithcheck, p.polrelid))
FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE {_USER_SCHEMAS}
UNION ALL
SELECT 'trigger', t.oid::bigint, t.tgname || ' on ' || n.nspname || '.' || c.relname || chr(10) || concat_ws(' ',
  t.tgenabled, t.tgtype, t.tgdeferrable, t.tginitdeferred, nullif(t.tgattr::text, ''), md5(t.tgqual::text),
  'EXECUTE FUNCTION', t.tgfoid::regprocedure)
FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE NOT t.tgisinternal AND {_USER_SCHEMAS}
UNION ALL
SELECT 'rule', r.oid::bigint, r.rulename || ' on ' || n.nspname || '.' || c.relname || chr(10) || concat_ws(' ',
  r.ev_enabled, r.ev_type, r.is_instead, md5(concat(r.ev_qual, r.ev_action)))
FROM pg_rewrite r JOIN pg_class c ON c.oid = r.ev_class JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE r.rulename <> '_RETURN' AND {_USER_SCHEMAS}
"""


async def read_schema_snapshot(conn: Connection) -> SchemaSnapshot:
    """Reads the whole schema; takes no lock on any table of it."""
    path = await conn.fetchval("SELECT current_schemas(false)::text[]")
    role = await conn.fetchval("SELECT current_user::text")
    async with conn.transaction():
        await conn.execute("SET LOCAL search_path = pg_catalog")  # names in definitions are then qualified
        columns: dict[int, list[ColumnInfo]] = {}
        for row in await conn.fetch(_COLUMNS):
            values = {key: value for key, value in row.items() if key != "relation"}
            columns.setdefault(row["relation"], []).append(ColumnInfo(**values))
        uses: dict[int, set[tuple[int, int]]] = {}
        for row in await conn.fetch(_USES):
            uses.setdefault(row["view"], set()).add((row["oid"], row["number"]))
        relations = {}
        for row in await conn.fetch(_RELATIONS):
            oid, values = row["oid"], dict(row)
            values |= {"grants": frozenset(row["grants"]), "parents": tuple(row["parents"])}
            values |= {"index_columns": frozenset(row["index_columns"])}
            values |= {"columns": tuple(columns.get(oid, ())), "uses": frozenset(uses.get(oid, ()))}
            relations[oid] = RelationInfo(**values)
        constraints = {
            row["oid"]: ConstraintInfo(**dict(row) | {key: tuple(row[key]) for key in ("columns", "target_columns")})
            for row in await conn.fetch(_CONSTRAINTS)
        }
        objects = {(row["kind"], row["oid"]): row["text"] for row in await conn.fetch(_OBJECTS)}
    return SchemaSnapshot(relations, constraints, objects, tuple(path), role)
